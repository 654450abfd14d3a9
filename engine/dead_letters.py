"""Dead letters: runs that failed for good, with everything that is needed to understand and repair them.

A dead letter is the failed run itself: its record, its attempts, its thread's last checkpoint with what the finished
siblings of the failed node have saved. Replaying it is the same run going on, with the same id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from runyard.engine import dead_search, stand_in, state
from runyard.engine.errors import Conflict, EngineError, InvalidInput, InvalidTransition, NotFound, RunInFlight
from runyard.engine.letter import Filter, Repair, error_of, is_parked, summary
from runyard.engine.record import ids_of
from runyard.engine.run import Phase, Run, Wake
from runyard.engine.service import Service
from runyard.engine.store import runs
from runyard.engine.store.fence import Fence
from runyard.engine.worker import Graph

log = structlog.get_logger(__name__)

Json = dict[str, Any]
#: The graph of a run, for a repair that needs it.
OpenGraph = Callable[[Run], AbstractContextManager[Graph]]
#: What became of one letter in a bulk replay when all went well.
REPLAYED = "replayed"


class DeadLetters:
    """Reading and repairing dead letters; synchronous and thread-safe like the service it stands on."""

    def __init__(self, service: Service) -> None:
        self._service, self._store, self._keys = service, service.store, service.keys

    def search(self, wanted: Filter | None = None, *, limit: int = 20, offset: int = 0) -> tuple[list[Run], int]:
        """Dead letters that match, newest first, and how many match: of those after the page only the next is counted
        when more is asked for than an age."""
        wanted, ends = wanted or Filter(), offset + limit
        found = list(islice(dead_search.newest(self._service, wanted, first=ends + 1), ends + 1))
        total = dead_search.how_many(self._service, wanted)
        return found[offset:ends], len(found) if total is None else max(total, len(found))

    def count(self, wanted: Filter) -> int:
        """How many match. Reads all of them when more is asked for than an age."""
        total = dead_search.how_many(self._service, wanted)
        return len(self._matching(wanted)) if total is None else total

    def get(self, run_id: str) -> Json:
        """All that is known of a dead letter. Raises RunNotFound; InvalidTransition when it is none."""
        run = self._letter(run_id)
        error = error_of(run)
        return {
            **summary(run),
            "request": {"input": run.request.input, "command": run.request.command, "config": run.request.config},
            "traceback": error.get("traceback"),
            "attempts": self._store.do(runs.attempts(self._keys, run_id)),
            "degraded": run.degraded,
            **self._where_it_stands(run),
        }

    def replay(self, run_id: str, repair: Repair | None = None, graph: Graph | None = None) -> Run:
        """Take a dead letter up again: the same run goes on where it failed; finished siblings are not run again.

        ``graph`` is needed when the repair touches the state or a node. Raises RunNotFound, InvalidTransition when it
        is not a dead letter or its thread has gone on without it, ThreadBusy when another run has its thread,
        InvalidInput when the repair names a node that is not waiting. A crash between an edit of the state and the
        revival leaves the edit and the dead letter.
        """
        run, repair = self._letter(run_id), repair or Repair()
        repair.check()
        if repair.values is None:
            self._check_thread(run)
        supplied = self._apply(run, repair, graph) if repair.needs_graph else {}
        # An edit is made through the graph as it is now, so whoever makes it knows it.
        accepted = repair.accept_change or repair.values is not None
        queue = self._store.do(runs.revive(self._keys, run, supplied, accept_change=accepted))
        if queue is None:
            raise InvalidTransition(f"Run {run_id} is not a dead letter any more.")
        log.info("run.revived", **ids_of(run))
        self._service.wake([Wake(run_id=run_id, queue=queue, graph_id=run.graph_id, label=run.graph_id)])
        return self._service.get_run(run_id)

    def replay_all(
        self,
        wanted: Filter,
        repair: Repair | None = None,
        *,
        per_second: float = 10.0,
        limit: int = 1000,
        open_graph: OpenGraph | None = None,
    ) -> Iterator[tuple[str, str]]:
        """Replay what matches now, oldest first, no faster than ``per_second``, as the iterator is read.

        Yields run id and REPLAYED or why not. ``open_graph`` is needed when the repair is. Raises at once
        StoreUnavailable, and InvalidInput when the repair contradicts itself.
        """
        repair = repair or Repair()
        repair.check()
        chosen = self._matching(wanted)[::-1][:limit]
        return self._replay_each(chosen, repair, 1 / per_second, open_graph)

    def _replay_each(
        self, chosen: list[Run], repair: Repair, gap_s: float, open_graph: OpenGraph | None
    ) -> Iterator[tuple[str, str]]:
        due = time.monotonic()
        for run in chosen:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic()) + gap_s
            yield run.run_id, self._try_replay(run, repair, open_graph)

    def _try_replay(self, run: Run, repair: Repair, open_graph: OpenGraph | None) -> str:
        try:
            with open_graph(run) if open_graph and repair.needs_graph else nullcontext() as graph:
                self.replay(run.run_id, repair, graph)
        except (Conflict, InvalidInput, NotFound) as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - one that cannot be replayed must not keep the others back
            return f"{type(error).__name__}: {error}"
        return REPLAYED

    def discard(self, run_id: str, reason: str) -> None:
        """Take a dead letter off the list for good; its record, with the reason, stays until retention."""
        self._dead(run_id)
        if not self._store.do(runs.discard(self._keys, run_id, reason)):
            raise InvalidTransition(f"Run {run_id} is not a dead letter any more.")

    def export(self, wanted: Filter | None = None) -> Iterator[Json]:
        """All that is known of each dead letter that matches now, newest first; read as the iterator is."""
        chosen = self._matching(wanted or Filter())
        return (letter for run in chosen if (letter := self._still(run.run_id)) is not None)

    def _still(self, run_id: str) -> Json | None:
        try:
            return self.get(run_id)
        except (NotFound, InvalidTransition):  # replayed, discarded or deleted in the meantime
            return None

    def _matching(self, wanted: Filter) -> list[Run]:
        return list(dead_search.newest(self._service, wanted))

    def _letter(self, run_id: str) -> Run:
        """A dead letter, or a run that waits for an operator all the same."""
        run = self._service.get_run(run_id)
        return run if is_parked(run) else self._dead(run_id)

    def _dead(self, run_id: str) -> Run:
        run = self._service.get_run(run_id)
        if not self._store.do(runs.is_dead(self._keys, run_id)):
            now = f"it was discarded ({run.discarded})" if run.discarded else f"it is {run.phase}"
            raise InvalidTransition(f"Run {run_id} is not a dead letter; {now}.")
        return run

    def _check_thread(self, run: Run) -> None:
        """Refuse what would go on with another run's state: most often with nothing left to do, and call it success."""
        saved = self._latest(run)
        left_by = dict(saved.metadata).get("run_id") if saved else None
        if run.entered == "checkpoint" and left_by not in (None, run.run_id):
            raise InvalidTransition(
                f"Thread {run.thread_id} has gone on with run {left_by} since run {run.run_id} failed. Edit the state "
                "(values, as_node) to go on from where it stands now, or discard the dead letter."
            )

    def _latest(self, run: Run) -> CheckpointTuple | None:
        config: RunnableConfig = {"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ""}}
        return self._service.saver.get_tuple(config)

    def _where_it_stands(self, run: Run) -> Json:
        saved = self._latest(run)
        if saved is None:
            return {"checkpoint": None, "values": None, "siblings": []}
        siblings = [
            {"task_id": task_id, "channel": channel, "value": value}
            for task_id, channel, value in saved.pending_writes or []
            if not _is_plumbing(channel)
        ]
        checkpoint_id = saved.config["configurable"]["checkpoint_id"]
        return {
            "checkpoint": {"checkpoint_id": checkpoint_id, "step": saved.metadata.get("step")},
            "values": {
                name: value for name, value in saved.checkpoint["channel_values"].items() if not _is_plumbing(name)
            },
            "siblings": siblings,
        }

    def _apply(self, run: Run, repair: Repair, graph: Graph | None) -> dict[str, Json]:
        """Edit the state, and find the tasks that the repair's nodes are. Answers what stands in for each task."""
        if graph is None:
            raise ValueError("A repair of the state or of a node needs the graph.")
        if repair.values is not None:
            self._check_output(run, repair, graph, repair.output or {})  # before anything is written
            self._edit(run, repair, graph)
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
        failed = [task for task in tasks if task["name"] in repair.by_node and task["result"] is None]
        self._check_output(run, repair, graph, [task["name"] for task in failed])
        return {task["id"]: repair.by_node[task["name"]] for task in failed}

    def _check_output(self, run: Run, repair: Repair, graph: Graph, nodes: Iterable[str]) -> None:
        given, saved = repair.output or {}, self._latest(run)
        outputs = [(node, given[node]) for node in nodes if node in given and node in graph.nodes]
        stand_in.check(graph, outputs, saved.checkpoint["channel_values"] if saved else {})

    def _edit(self, run: Run, repair: Repair, graph: Graph) -> None:
        saver, values, as_node = self._service.saver, repair.values, repair.as_node
        at = self._keys.of_run(run.run_id)
        # A parked run has its thread: what must not happen in between is that it goes on by itself.
        fence = Fence(at.run(run.run_id), "phase", Phase.PARKED) if is_parked(run) else None
        try:
            state.update(graph, saver, self._keys, run.thread_id, values, as_node=as_node, fence=fence)
        except RunInFlight as error:
            if fence is None:
                raise
            raise InvalidTransition(f"Run {run.run_id} is not parked any more.") from error
        except EngineError:
            raise
        except Exception as error:
            # The graph's own reducers and branches run here, and refuse what they cannot take in any way they like.
            raise InvalidInput(f"values: the graph does not take them: {type(error).__name__}: {error}") from error


def _is_plumbing(channel: str) -> bool:
    """Whether a channel is LangGraph's own, which no state of a graph's author has."""
    return channel.startswith(("__", "branch:"))
