"""Dead letters: runs that failed for good, with everything that is needed to understand and repair them.

A dead letter is the failed run itself: its record, its attempts, its thread's last checkpoint with what the finished
siblings of the failed node have saved. Replaying it is the same run going on, with the same id.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runyard.engine import seam, state
from runyard.engine.errors import InvalidInput, InvalidTransition
from runyard.engine.run import Run, Wake
from runyard.engine.service import Service
from runyard.engine.store import runs
from runyard.engine.worker import Graph

Json = dict[str, Any]
#: A filter looks at no more than this many of a partition's newest dead letters.
DEPTH = 10_000
_VARIABLE = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27,}|[0-9a-f]{12,}|\d+", re.IGNORECASE)


def error_fingerprint(graph_id: str, error: Json) -> str:
    """12 hex digits, the same for the same kind of failure: graph, node, type and message without its numbers."""
    message = _VARIABLE.sub("#", str(error.get("message", "")))[:500]
    kind = "\0".join((graph_id, str(error.get("node", "")), str(error.get("error", "")), message))
    return hashlib.sha256(kind.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which dead letters are meant; what is None is not asked. Ages in seconds."""

    graph_id: str | None = None
    node: str | None = None
    fingerprint: str | None = None
    older_than_s: float | None = None
    younger_than_s: float | None = None

    def takes(self, run: Run, now_ms: float) -> bool:
        error = run.error or {}
        age_s = (now_ms - (run.ended_at or now_ms)) / 1000
        return (
            (self.graph_id is None or run.graph_id == self.graph_id)
            and (self.node is None or error.get("node") == self.node)
            and (self.fingerprint is None or error_fingerprint(run.graph_id, error) == self.fingerprint)
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
        """For each node that is not to run: what stands in for it."""
        return {
            **{node: {"value": value} for node, value in (self.output or {}).items()},
            **{node: {"value": None} for node in self.skip},
            **{node: {"goto": target} for node, target in (self.goto or {}).items()},
        }


class DeadLetters:
    """Reading and repairing dead letters; synchronous and thread-safe like the service it stands on."""

    def __init__(self, service: Service) -> None:
        self._service, self._store, self._keys = service, service.store, service.keys

    def search(self, wanted: Filter | None = None, *, limit: int = 20, offset: int = 0) -> tuple[list[Run], int]:
        """Dead letters that match, newest first, and how many match in all."""
        matching = list(self._matching(wanted or Filter()))
        return matching[offset : offset + limit], len(matching)

    def get(self, run_id: str) -> Json:
        """All that is known of a dead letter. Raises RunNotFound; InvalidTransition when it is none."""
        run = self._dead(run_id)
        error = run.error or {}
        return {
            **summary(run),
            "request": {"input": run.request.input, "command": run.request.command, "config": run.request.config},
            "graph_fingerprint": run.fingerprint,
            "traceback": error.get("traceback"),
            "attempts": self._store.do(runs.attempts(self._keys, run_id)),
            "degraded": run.degraded,
            **self._where_it_stands(run),
        }

    def replay(self, run_id: str, repair: Repair | None = None, graph: Graph | None = None) -> Run:
        """Take a dead letter up again: the same run goes on where it failed; finished siblings are not run again.

        ``graph`` is needed when the repair touches the state or a node. Raises RunNotFound, InvalidTransition when it
        is not a dead letter, ThreadBusy when another run has its thread, InvalidInput when the repair names a node that
        is not waiting. A crash between an edit of the state and the revival leaves the edit and the dead letter.
        """
        run, repair = self._dead(run_id), repair or Repair()
        supplied = self._apply(run, repair, graph) if graph is not None and repair.needs_graph else {}
        # An edit is made through the graph as it is now, so whoever makes it knows it.
        accepted = repair.accept_change or repair.values is not None
        queue = self._store.do(runs.revive(self._keys, run, supplied, accept_change=accepted))
        if queue is None:
            raise InvalidTransition(f"Run {run_id} is not a dead letter any more.")
        self._service.wake([Wake(run_id=run_id, queue=queue, graph_id=run.graph_id, label=run.graph_id)])
        return self._service.get_run(run_id)

    def replay_all(
        self, wanted: Filter, repair: Repair | None = None, *, per_second: float = 10.0, limit: int = 1000
    ) -> Iterator[tuple[str, str]]:
        """Replay what matches, oldest first, no faster than ``per_second``; yields run id and "replayed" or why not."""
        for run in list(reversed(list(self._matching(wanted))))[:limit]:
            began = time.monotonic()
            try:
                self.replay(run.run_id, repair)
                yield run.run_id, "replayed"
            except (InvalidTransition, InvalidInput) as error:
                yield run.run_id, str(error)
            except Exception as error:  # noqa: BLE001 - one that cannot be replayed must not keep the others back
                yield run.run_id, f"{type(error).__name__}: {error}"
            time.sleep(max(0.0, 1 / per_second - (time.monotonic() - began)))

    def discard(self, run_id: str, reason: str) -> None:
        """Take a dead letter off the list for good; its record, with the reason, stays until retention."""
        self._dead(run_id)
        self._store.do(runs.discard(self._keys, run_id, reason))

    def _matching(self, wanted: Filter) -> Iterator[Run]:
        ids = self._store.do_all([runs.dead(self._keys, at.number, limit=DEPTH) for at in self._keys.all()])
        found = self._store.do_all([runs.get(self._keys, run_id) for batch in ids for run_id in batch])
        now_ms = time.time() * 1000
        known = [run for run in found if run is not None and wanted.takes(run, now_ms)]
        return iter(sorted(known, key=lambda run: run.ended_at or 0, reverse=True))

    def _dead(self, run_id: str) -> Run:
        run = self._service.get_run(run_id)
        if not self._store.do(runs.is_dead(self._keys, run_id)):
            raise InvalidTransition(f"Run {run_id} is not a dead letter; it is {run.phase}.")
        return run

    def _where_it_stands(self, run: Run) -> Json:
        config = {"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ""}}
        saved = self._service.saver.get_tuple(config)  # type: ignore[arg-type]
        if saved is None:
            return {"checkpoint": None, "values": None, "siblings": []}
        siblings = [
            {"task_id": task_id, "channel": channel, "value": value}
            for task_id, channel, value in saved.pending_writes or []
            if channel not in (seam.ERROR, seam.INTERRUPT) and not channel.startswith("__")
        ]
        checkpoint_id = saved.config["configurable"]["checkpoint_id"]
        return {
            "checkpoint": {"checkpoint_id": checkpoint_id, "step": saved.metadata.get("step")},
            "values": saved.checkpoint["channel_values"],
            "siblings": siblings,
        }

    def _apply(self, run: Run, repair: Repair, graph: Graph) -> dict[str, Json]:
        """Edit the state, and find the tasks that the repair's nodes are. Answers what stands in for each task."""
        if repair.values is not None:
            state.update(graph, self._service.saver, self._keys, run.thread_id, repair.values, as_node=repair.as_node)
        if not repair.by_node:
            return {}
        tasks = state.read(graph, self._service.saver, run.thread_id)["tasks"]
        waiting = {task["name"] for task in tasks if task["result"] is None}
        for node in repair.by_node:
            if node not in waiting:
                raise InvalidInput(f"Node {node!r} is not waiting to run; these are: {', '.join(sorted(waiting))}.")
        for target in (repair.goto or {}).values():
            if target not in graph.nodes:
                raise InvalidInput(f"goto: there is no node {target!r} in graph {run.graph_id!r}.")
        return {task["id"]: repair.by_node[task["name"]] for task in tasks if task["name"] in repair.by_node}


def summary(run: Run) -> Json:
    """A dead letter in a list."""
    error = run.error or {}
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "graph_id": run.graph_id,
        "status": run.status,
        "node": error.get("node"),
        "error": error.get("error"),
        "message": error.get("message"),
        "fingerprint": error_fingerprint(run.graph_id, error),
        "failed_at": run.ended_at,
        "replays": run.replays,
    }
