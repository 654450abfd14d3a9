"""A dead letter in words: what failed, where and when, told from its run; which are meant; how one is repaired."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from runyard.engine.errors import InvalidInput
from runyard.engine.run import Phase, Run

Json = dict[str, Any]
_VARIABLE = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27,}|[0-9a-f]{12,}|\d+", re.IGNORECASE)


def error_fingerprint(graph_id: str, error: Json) -> str:
    """12 hex digits, the same for the same kind of failure: graph, node, type and message without its numbers."""
    message = _VARIABLE.sub("#", str(error.get("message", "")))[:500]
    kind = "\0".join((graph_id, str(error.get("node", "")), str(error.get("error", "")), message))
    return hashlib.sha256(kind.encode()).hexdigest()[:12]


def is_parked(run: Run) -> bool:
    """Whether a run waits for an operator, because a node's attempts are used up: a letter that is not dead yet."""
    return run.phase is Phase.PARKED and any(entry["why"] == "exhausted" for entry in run.parked)


def error_of(run: Run) -> Json:
    """What a run failed with, or what the node failed with that it is parked for."""
    if not is_parked(run):
        return run.error or {}
    entry = next(entry for entry in run.parked if entry["why"] == "exhausted")
    return run.rounds.get(entry["task_id"], {})


def failed_at(run: Run) -> int | None:
    """When, in ms."""
    return min(entry["since"] for entry in run.parked) if is_parked(run) else run.ended_at


def summary(run: Run) -> Json:
    """A dead letter in a list."""
    error = error_of(run)
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "graph_id": run.graph_id,
        "status": run.status,
        "node": error.get("node"),
        "error": error.get("error"),
        "message": error.get("message"),
        "fingerprint": error_fingerprint(run.graph_id, error),
        "failed_at": failed_at(run),
        "phase": str(run.phase),
        "graph_fingerprint": run.fingerprint,
        "replays": run.replays,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which dead letters are meant; what is None is not asked. Ages in seconds."""

    graph_id: str | None = None
    node: str | None = None
    fingerprint: str | None = None
    #: The version of the graph that the run was on.
    graph_fingerprint: str | None = None
    older_than_s: float | None = None
    younger_than_s: float | None = None

    def takes(self, run: Run, now_ms: float) -> bool:
        error = error_of(run)
        age_s = (now_ms - (failed_at(run) or now_ms)) / 1000
        return (
            (self.graph_id is None or run.graph_id == self.graph_id)
            and (self.node is None or error.get("node") == self.node)
            and (self.fingerprint is None or error_fingerprint(run.graph_id, error) == self.fingerprint)
            and (self.graph_fingerprint is None or run.fingerprint == self.graph_fingerprint)
            and (self.older_than_s is None or age_s >= self.older_than_s)
            and (self.younger_than_s is None or age_s < self.younger_than_s)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What is changed before a replay; nothing by default: only what failed is tried again.

    ``values`` edit the state as if ``as_node`` had written them. ``output`` is taken as what a failed node returned,
    by node. ``skip`` names failed nodes that are taken to have returned nothing. ``goto`` sends a failed node's flow to
    another node, by node. ``accept_change``: go on although the graph was changed and lost the nodes that were next.
    """

    values: Json | None = None
    as_node: str | None = None
    output: Json | None = None
    skip: tuple[str, ...] = ()
    goto: dict[str, str] | None = None
    accept_change: bool = False

    @property
    def needs_graph(self) -> bool:
        return self.values is not None or bool(self.by_node)

    @property
    def by_node(self) -> dict[str, Json]:
        """For each node that is not to run: what stands in for it. An output may come with a goto."""
        instead: dict[str, Json] = {node: {"value": None} for node in self.skip}
        for node, value in (self.output or {}).items():
            instead[node] = {"value": value}
        for node, target in (self.goto or {}).items():
            instead[node] = {**instead.get(node, {}), "goto": target}
        return instead

    def check(self) -> None:
        """Raise InvalidInput when the repair contradicts itself."""
        if self.as_node is not None and self.values is None:
            raise InvalidInput("as_node: says who wrote the values, so it needs values")
        if both := sorted(set(self.skip) & {*(self.output or {}), *(self.goto or {})}):
            raise InvalidInput(f"skip: {both[0]!r} is to be skipped and stood in for; say one of the two")
