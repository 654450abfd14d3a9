"""Crons in the store: their record, and the typed functions for their scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from runyard.engine import errors, wire
from runyard.engine.run import MultitaskStrategy, Phase, Run, RunRequest
from runyard.engine.store import runs
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys, Partition
from runyard.engine.store.replies import as_hash
from runyard.engine.store.scripts import script

#: What an edit can change; the rest of a cron is kept by the scripts.
FACTS = (
    *("assistant_id", "graph_id", "own", "thread_id", "schedule", "timezone", "end_at", "enabled"),
    *("on_run_completed", "request", "strategy", "payload", "metadata", "tenant", "user", "priority"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A run that is started again and again. Instants are ms since the epoch, on the store's clock."""

    cron_id: str
    assistant_id: str
    graph_id: str
    #: Whether the assistant is the one that comes with the graph, of which the store knows nothing.
    own: bool
    #: None: each run gets a thread of its own.
    thread_id: str | None
    schedule: str
    timezone: str | None
    end_at: int | None
    enabled: bool
    #: What becomes of a thread that was made for one run.
    on_run_completed: Literal["delete", "keep"] | None
    #: The run to start, as it is before the assistant's configuration comes under it.
    request: RunRequest
    strategy: MultitaskStrategy
    #: What the client sent.
    payload: dict[str, Any]
    metadata: dict[str, Any]
    #: Whose it is; empty: the default tenant's.
    tenant: str = ""
    #: Whom nodes of its runs are to know as the one who asked.
    user: dict[str, Any] | None = None
    #: Of the runs it starts.
    priority: int = 0
    created_at: int = 0
    updated_at: int = 0
    #: When it is to fire next; None: never (again).
    next_at: int | None = None
    #: Grows with every edit; the condition of the next.
    revision: int = 0
    fired: int = 0
    last_run_id: str | None = None
    #: Why the last firing started no run, or why nothing will.
    problem: str | None = field(default=None)

    def facts(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in FACTS}, "request": asdict(self.request)}


def put(keys: Keys, cron: Cron, *, next_at: int | Literal["unchanged"] | None, problem: str = "") -> Call[Cron | None]:
    """Record a cron, new (``revision`` 0) or edited; None when it was edited or deleted since it was read."""
    at = keys.of_run(cron.cron_id)
    following = "=" if next_at == "unchanged" else "" if next_at is None else next_at
    wanted = (at.cron(cron.cron_id), at.crons, at.crons_due, at.thread_crons(cron.thread_id or ""))
    facts = keys.seal(wire.encode(cron.facts()), cron.cron_id)
    words = (cron.cron_id, cron.revision, facts, following, problem, int(bool(cron.thread_id)))
    return Call(script("put_cron"), wanted, words, lambda reply: _decode(reply) if reply else None)


def get(keys: Keys, cron_id: str) -> Call[Cron | None]:
    key = keys.of_run(cron_id).cron(cron_id)
    return Call.command("HGETALL", key, parse=lambda reply: _decode(reply) if reply else None)


def delete(keys: Keys, cron_id: str, thread_id: str | None) -> Call[bool]:
    at = keys.of_run(cron_id)
    wanted = (at.cron(cron_id), at.crons, at.crons_due, at.thread_crons(thread_id or ""))
    return Call(script("delete_cron"), wanted, (cron_id,), bool)


def of_thread(keys: Keys, thread_id: str) -> Call[list[str]]:
    """Ids of a thread's crons, in no order."""
    key = keys.of_thread(thread_id).thread_crons(thread_id)
    return Call.command("SMEMBERS", key, parse=lambda reply: _ids(list(reply)))


def newest(at: Partition, *, limit: int) -> Call[list[str]]:
    """Ids of a partition's crons, newest first."""
    return Call.command("ZREVRANGE", at.crons, 0, limit - 1, parse=_ids)


def due(at: Partition, now_ms: int, *, most: int, skip: int = 0) -> Call[list[str]]:
    """Crons of a partition whose time has come, longest due first, but for the first ``skip``."""
    return Call.command("ZRANGEBYSCORE", at.crons_due, "-inf", now_ms, "LIMIT", skip, most, parse=_ids)


def fire(
    keys: Keys, cron: Cron, run: Run, *, next_at: int | None, create_thread: bool
) -> Call[tuple[Phase, int] | None]:
    """Start a cron's run and set when it fires next, in one step; None: somebody has done so already.

    Raises ThreadNotFound and ThreadBusy: then no run was started, and the firing is over all the same.
    """
    at = keys.of_run(cron.cron_id)
    starting = runs.create(keys, run, create_thread=create_thread, thread_metadata=cron.metadata)
    following = "" if next_at is None else next_at
    words = (cron.cron_id, cron.next_at or 0, following, *starting.args)
    wanted = (at.cron(cron.cron_id), at.crons_due, *starting.keys)
    return Call(script("fire_cron"), wanted, words, _fired)


def _fired(reply: Sequence[Any]) -> tuple[Phase, int] | None:
    if not reply:
        return None
    if reply[0] == b"refused":
        word, _, said = reply[1].decode().partition(" ")
        raise (errors.ThreadBusy if word == "THREAD_BUSY" else errors.ThreadNotFound)(said)
    return Phase(reply[0].decode()), int(reply[1])


def _decode(reply: Any) -> Cron:
    fields = as_hash(reply)

    def number(name: str) -> int | None:
        return int(fields[name]) if fields.get(name) else None

    facts = wire.decode(fields["facts"])
    return Cron(
        **{**facts, "request": RunRequest(**facts["request"])},
        cron_id=fields["cron_id"].decode(),
        created_at=int(fields["created_at"]),
        updated_at=int(fields["updated_at"]),
        next_at=number("next_at"),
        revision=int(fields["revision"]),
        fired=number("fired") or 0,
        last_run_id=fields.get("last_run_id", b"").decode() or None,
        problem=fields.get("problem", b"").decode() or None,
    )


def _ids(reply: Sequence[bytes]) -> list[str]:
    return [item.decode() for item in reply]
