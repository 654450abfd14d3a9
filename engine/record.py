"""Whose a record, a line of the log or a span is, and what a record looks like to its readers.

Apart from the ledger, which writes them and needs LangGraph for it: who only reads loads none of that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from runyard.engine.run import Run
from runyard.engine.store import records

Json = dict[str, Any]
#: The fields of a record as readers get them, in this order; what does not apply is null.
FIELDS = (
    "id", "kind", "run_id", "thread_id", "graph", "node", "step", "attempt", "tool", "args", "latency_ms", "queue_ms",
    "status", "result_count", "tokens_used", "cost", "decision", "error", "worker", "slice", "trace_id", "timestamp",
)  # fmt: skip


class Kind(StrEnum):
    ATTEMPT = "attempt"
    TOOL = "tool"
    MODEL = "model"
    DECISION = "decision"


class Status(StrEnum):
    OK = "ok"
    ERROR = "error"
    #: It took longer than it was allowed to.
    TIMEOUT = "timeout"
    #: It asks a person, and goes on when there is an answer.
    INTERRUPTED = "interrupted"
    #: It was cut off: its run was cancelled or timed out, or its worker was told to stop.
    CANCELLED = "cancelled"
    #: Its worker died, or lost touch, while this was under way, or about to be.
    LOST = "lost"


@dataclass(slots=True)
class Tokens:
    """What models were given and gave, and what that cost, for one attempt of a node."""

    into: int = 0
    out: int = 0
    cost: float | None = None
    by_model: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, model: str, into: int, out: int, cost: float | None) -> None:
        self.into, self.out = self.into + into, self.out + out
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost
        of = self.by_model.setdefault(model, {"in": 0, "out": 0})
        of["in"] += into
        of["out"] += out

    def told(self) -> Json:
        return {"in": self.into, "out": self.out, "by_model": self.by_model}


def ids_of(run: Run) -> dict[str, str]:
    """The ids by which records, lines of the log and traces of a run are found. One trace for all slices of a run: that
    of the request that made it, or its own id."""
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "graph": run.graph_id,
        "trace_id": run.trace[3:35] or run.run_id.replace("-", ""),
    }


@dataclass(frozen=True, slots=True)
class About:
    """What all records of a run have in common; readers get it with each."""

    run_id: str
    thread_id: str
    graph: str
    trace_id: str
    #: The same as the inside of a JSON object, for lines of the log.
    head: bytes

    @classmethod
    def of(cls, run: Run) -> About:
        ids = ids_of(run)
        return cls(ids["run_id"], ids["thread_id"], ids["graph"], ids["trace_id"], orjson.dumps(ids)[1:-1])


def as_told(about: About, entry: records.Entry) -> Json:
    """A record as readers get it: every field, the instant in milliseconds."""
    entry_id, said = entry
    known = {"id": entry_id, "run_id": about.run_id, "thread_id": about.thread_id, "graph": about.graph,
             "trace_id": about.trace_id, **said}  # fmt: skip
    return {name: known.get(name) for name in FIELDS}
