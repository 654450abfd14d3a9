"""Notices in the store: the outbox of the fleet, what was told before, and how far the lookout has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runyard.engine import wire
from runyard.engine.notices import Notice, Rules
from runyard.engine.run import Phase, Run
from runyard.engine.store.client import Arg, Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.replies import as_hash
from runyard.engine.store.scripts import script
from runyard.engine.webhooks import Delivered, Verdict

#: A thing that was told is told once; after so long, in ms, it is not remembered any more.
TOLD_MS = 30 * 86_400_000

Put = Literal["put", "known", "quiet", "throttled"]
State = Literal["pending", "failed"]


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery in hand, in its ``attempt``-th attempt; ``more`` of its group were not told since the one before."""

    id: str
    attempt: int
    told: Mapping[str, Any]
    target: str
    more: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A delivery that is owed or was given up; ``at``: the ms of its next attempt, or of its end."""

    id: str
    at: int
    told: Mapping[str, Any]
    target: str
    attempts: int
    problem: str


def put(keys: Keys, notice: Notice, rules: Rules, *, told: Mapping[str, Any]) -> Call[Put]:
    """Owe a notice to its targets, once, in as many places as it is found and as often."""
    names = {f"{notice.id}-{number}": target.name for number, target in enumerate(rules.to, 1)}
    kind = f"{notice.tenant}/{notice.kind}"
    where = (keys.notice_told(notice.id), keys.notice_group(f"{kind}/{notice.group}"), keys.notice_rate(kind))
    wanted = (*where, keys.notices, *map(keys.notice, names))
    pairs = [word for pair in names.items() for word in pair]
    kept = keys.seal(wire.encode(told), "{notices}")
    words: tuple[Arg, ...] = (TOLD_MS, round(rules.quiet_s * 1000), rules.most_per_hour, kept, *pairs)
    return Call(script("put_notice"), wanted, words, lambda reply: reply.decode())


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands, as much as tells whether it comes on. Instants are ms."""

    run_id: str
    phase: Phase
    graph_id: str
    tenant: str
    updated_at: int
    started_at: int | None
    progress_at: int | None

    @property
    def moved_at(self) -> int:
        """The last sign that it came on: its graph moved, or a worker took it."""
        return max(self.progress_at or 0, self.updated_at)


def standing(keys: Keys, run_id: str) -> Call[Standing | None]:
    names = ("phase", "graph_id", "tenant", "updated_at", "started_at", "progress_at")

    def parse(reply: Any) -> Standing | None:
        if reply[0] is None:
            return None
        phase, graph_id, tenant = ((word or b"").decode() for word in reply[:3])
        started, progress = (int(word) if word else None for word in reply[4:])
        return Standing(run_id, Phase(phase), graph_id, tenant, int(reply[3]), started, progress)

    return Call.command("HMGET", keys.of_run(run_id).run(run_id), *names, parse=parse)


def standing_of(run: Run) -> Standing:
    return Standing(run.run_id, run.phase, run.graph_id, run.tenant, run.updated_at, run.started_at, run.progress_at)


def due(keys: Keys, now_ms: int, *, most: int) -> Call[list[str]]:
    """Deliveries whose time has come."""
    words = ("ZRANGEBYSCORE", keys.notices, "-inf", now_ms, "LIMIT", 0, most)
    return Call.command(*words, parse=lambda ids: [each.decode() for each in ids])


def claim(keys: Keys, delivery_id: str, *, nonce: str, lease_ms: int) -> Call[Owed | None]:
    """Take a delivery in hand, or None: it is somebody's, or over."""

    def parse(reply: Any) -> Owed | None:
        if reply is None:
            return None
        return Owed(delivery_id, int(reply[0]), wire.decode(reply[1]), reply[2].decode(), int(reply[3]))

    wanted = (keys.notice(delivery_id), keys.notices)
    return Call(script("claim_notice"), wanted, (delivery_id, nonce, lease_ms), parse)


def settle(keys: Keys, delivery_id: str, nonce: str, verdict: Verdict) -> Call[bool]:
    """Note what came of an attempt; answers False when the delivery was taken over in the meantime."""
    if isinstance(verdict, Delivered):
        words: tuple[str | int, ...] = ("delivered", 0, "")
    elif verdict.retry_s is None:
        words = ("failed", 0, verdict.problem)
    else:
        words = ("pending", round(verdict.retry_s * 1000), verdict.problem)
    wanted = (keys.notice(delivery_id), keys.notices, keys.notices_failed)
    return Call(script("settle_notice"), wanted, (delivery_id, nonce, *words), bool)


def resend(keys: Keys, delivery_id: str) -> Call[bool]:
    """Deliver a notice anew that was given up; answers whether there is one."""
    wanted = (keys.notice(delivery_id), keys.notices, keys.notices_failed)
    return Call(script("resend_notice"), wanted, (delivery_id,), bool)


def listed(keys: Keys, state: State, *, limit: int) -> Call[list[tuple[str, int]]]:
    """Ids of deliveries that are owed, soonest first, or were given up, newest first, with their ms."""
    key, order = (keys.notices_failed, "ZREVRANGE") if state == "failed" else (keys.notices, "ZRANGE")
    return Call.command(order, key, 0, limit - 1, "WITHSCORES", parse=_scored)


def read(keys: Keys, delivery_id: str, at: int) -> Call[Listed | None]:
    def parse(reply: Any) -> Listed | None:
        found = as_hash(reply)
        if "notice" not in found:
            return None
        problem = found.get("problem", b"").decode()
        told, target = wire.decode(found["notice"]), found["target"].decode()
        return Listed(delivery_id, at, told, target, int(found.get("attempts", 0)), problem)

    return Call.command("HGETALL", keys.notice(delivery_id), parse=parse)


def cursors(keys: Keys) -> Call[dict[str, int]]:
    """How far what is to be told was looked through, in ms."""
    return Call.command(
        "HGETALL", keys.notices_seen, parse=lambda reply: {k: int(v) for k, v in as_hash(reply).items()}
    )


def note_cursors(keys: Keys, seen: Mapping[str, int]) -> Call[int]:
    return Call.command("HSET", keys.notices_seen, *(word for pair in seen.items() for word in pair))


def _scored(reply: Any) -> list[tuple[str, int]]:
    """WITHSCORES answers pairs over RESP3 and in a client that converts, else a flat list."""
    if reply and not isinstance(reply[0], (list, tuple)):
        reply = list(zip(reply[::2], reply[1::2], strict=True))
    return [(member.decode(), int(float(score))) for member, score in reply]


def scored(words: Sequence[str | int]) -> Call[list[tuple[str, int]]]:
    """A range of a sorted set with its ms."""
    return Call.command(*words, "WITHSCORES", parse=_scored)
