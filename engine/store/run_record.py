"""A run's hash: what is written into it at creation, and the record that it makes.

Scripts write the rest of its fields. What :class:`runyard.engine.run.Run` has as a map is a field for each entry here,
`<kind>:<name>`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from runyard.engine import wire
from runyard.engine.run import Delivery, Phase, Run, RunRequest
from runyard.engine.store.keys import Keys


def fields_of(keys: Keys, run: Run) -> list[str | bytes]:
    """Field and value of what is written at creation."""
    return [
        "assistant_id", run.assistant_id, "graph_id", run.graph_id, "queue", run.queue,
        "request", keys.seal(wire.encode(run.request.fields), run.run_id), "metadata", wire.encode(run.metadata),
        "temporary", "1" if run.temporary else "",
        *(("priority", str(run.priority)) if run.priority else ()),
        *(("user", keys.seal(wire.encode(run.user), run.run_id)) if run.user else ()),
        *(("trace", run.trace) if run.trace else ()),
        *(("timeout_ms", str(round(run.request.timeout_s * 1000))) if run.request.timeout_s else ()),
    ]  # fmt: skip


def decode(fields: Mapping[str, bytes]) -> Run:
    """The record of a run from its hash."""

    def number(name: str) -> int | None:
        return int(fields[name]) if fields.get(name) else None

    def text(name: str) -> str:
        return fields.get(name, b"").decode()

    def shared(name: str) -> str:  # what many runs in hand have in common is there once
        return sys.intern(text(name))

    def json(name: str) -> Any:
        return wire.decode(fields[name]) if fields.get(name) else None

    of: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for field, value in fields.items():
        kind, colon, name = field.partition(":")
        if colon:
            of[kind][name] = value
    return Run(
        run_id=text("run_id"),
        thread_id=text("thread_id"),
        assistant_id=shared("assistant_id"),
        graph_id=shared("graph_id"),
        phase=Phase(text("phase")),
        queue=shared("queue"),
        strategy=shared("strategy"),  # type: ignore[arg-type]  # only validated words are stored
        created_at=int(fields["created_at"]),
        updated_at=int(fields["updated_at"]),
        request=RunRequest(**json("request")),
        metadata={**labels_in(fields.get("thread_metadata")), **(json("metadata") or {})},
        temporary=text("temporary") == "1",
        started_at=number("started_at"),
        ended_at=number("ended_at"),
        due_at=number("due_at"),
        progress_at=number("progress_at"),
        token=number("token") or 0,
        owner=shared("owner") or None,
        cancel=text("cancel") or None,  # type: ignore[arg-type]
        error=json("error"),
        entered=text("entered"),  # type: ignore[arg-type]
        base_step=number("base_step"),
        fingerprint=shared("fingerprint"),
        slices=number("slices") or 0,
        lost_slice=number("lost_slice") or 0,
        lost_from=number("lost_from") or 0,
        lost_worker=text("lost_worker"),
        crashes=number("crashes") or 0,
        attempts={name: int(value) for name, value in of["attempts"].items()},
        again={name: int(value) for name, value in of["again"].items()},
        rounds={name: wire.decode(value) for name, value in of["round"].items()},
        parts={name: wire.decode(value) for name, value in of["part"].items()},
        cuts={name: int(value) for name, value in of["cut"].items()},
        degraded=[wire.decode(value) for value in of["degraded"].values()],
        supplied=json("supplied") or {},
        deadline_at=number("deadline_at"),
        replays=number("replays") or 0,
        discarded=text("discarded") or None,
        left_running=text("left_running"),
        tenant=shared("tenant"),
        trace=text("trace"),
        user=json("user"),
        delivery=_delivery(fields) if "webhook:state" in fields else None,
        priority=number("priority") or 0,
        spent={name: float(value) for name, value in of["spent"].items()},
        granted={name: float(value) for name, value in of["granted"].items()},
        parked=json("parked") or [],
        parked_branches=[entry for value in of["parked"].values() for entry in wire.decode(value)],
    )


def _delivery(fields: Mapping[str, bytes]) -> Delivery:
    return Delivery(
        fields["webhook:state"].decode(),  # type: ignore[arg-type]  # only these words are stored
        int(fields["webhook:attempts"]),
        int(fields["webhook:at"]),
        int(fields["webhook:status"]) if fields.get("webhook:status") else None,
        fields.get("webhook:problem", b"").decode() or None,
    )


def labels_in(metadata: bytes | None) -> dict[str, Any]:
    """A thread's metadata as its runs take it over; of which graph and assistant they are, they say themselves."""
    known: dict[str, Any] = wire.decode(metadata) if metadata else {}
    return {key: value for key, value in known.items() if key not in ("graph_id", "assistant_id")}
