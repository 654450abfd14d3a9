"""A thread's state as clients see it: read, edited and listed through its graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import InvalidUpdateError
from langgraph.types import Command, StateSnapshot, StateUpdate

from runyard.engine import seam
from runyard.engine.errors import InvalidInput, LeaseLost, RunInFlight
from runyard.engine.run import Run
from runyard.engine.saver import RedisSaver, SliceSession
from runyard.engine.shape import checkpoint_of
from runyard.engine.store import threads
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.worker import Graph

Json = dict[str, Any]


def read(
    graph: Graph, saver: RedisSaver, thread_id: str, checkpoint: Json | None = None, *, subgraphs: bool = False
) -> Json:
    """The state of a thread, at its latest checkpoint or at a given one; all-empty before the first."""
    bound = seam.bind(graph, saver)
    return snapshot(bound.get_state(_config(thread_id, checkpoint), subgraphs=subgraphs))


def history(
    graph: Graph, saver: RedisSaver, thread_id: str, *, limit: int = 10, before: Json | None = None,
    metadata: Json | None = None, checkpoint: Json | None = None,
) -> Iterator[Json]:  # fmt: skip
    """States of a thread, newest first."""
    bound = seam.bind(graph, saver)
    earlier = _config(thread_id, before) if before else None
    found = bound.get_state_history(_config(thread_id, checkpoint), limit=limit, before=earlier, filter=metadata)
    return (snapshot(state) for state in found)


def update(
    graph: Graph, saver: RedisSaver, keys: Keys, thread_id: str, values: Any, *, as_node: str | None = None,
    checkpoint: Json | None = None, fence: Fence | None = None,
) -> Json:  # fmt: skip
    """Edit the state, as if ``as_node`` had written ``values``; answers where that left the thread.

    Refused in the same script that would write it when a run is active, or ``fence`` does not hold: RunInFlight.
    Raises InvalidInput when the graph does not take the update.
    """
    session = SliceSession(fence=fence or threads.idle_fence(keys, thread_id))
    bound = seam.bind(graph, saver.bound(session))
    try:
        config = bound.update_state(_config(thread_id, checkpoint), values, as_node=as_node)
    except LeaseLost:
        raise RunInFlight from None
    except InvalidUpdateError as error:
        raise InvalidInput(f"values: {error}") from error
    return dict(config["configurable"])


def seed(graph: Graph, saver: RedisSaver, keys: Keys, thread_id: str, supersteps: Sequence[Sequence[Json]]) -> None:
    """Write a history: for each superstep the updates ``{"values" | "command", "as_node"}`` its nodes are to have made.

    Raises RunInFlight and InvalidInput as :func:`update` does.
    """
    steps = [[StateUpdate(_written(step), step.get("as_node")) for step in updates] for updates in supersteps]
    bound = seam.bind(graph, saver.bound(SliceSession(fence=threads.idle_fence(keys, thread_id))))
    try:
        bound.bulk_update_state(_config(thread_id, None), steps)
    except LeaseLost:
        raise RunInFlight from None
    except InvalidUpdateError as error:
        raise InvalidInput(f"supersteps: {error}") from error


def _written(step: Json) -> Any:
    command = step.get("command")
    if not command:
        return step.get("values")
    return Command(update=command.get("update"), resume=command.get("resume"), goto=command.get("goto") or ())


def snapshot(state: StateSnapshot) -> Json:
    """LangGraph's StateSnapshot as its server writes it."""
    return {
        "values": state.values,
        "next": list(state.next),
        "tasks": [_task(task) for task in state.tasks],
        "metadata": state.metadata,
        "created_at": state.created_at,
        "checkpoint": checkpoint_of(state.config),
        "parent_checkpoint": checkpoint_of(state.parent_config),
        "interrupts": [_interrupt(item) for item in state.interrupts],
        "checkpoint_id": _id(state.config),
        "parent_checkpoint_id": _id(state.parent_config),
    }


def _task(task: Any) -> Json:
    nested = task.state
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": None if task.error is None else task.error if isinstance(task.error, str) else repr(task.error),
        "interrupts": [_interrupt(item) for item in task.interrupts],
        "checkpoint": checkpoint_of(nested) if isinstance(nested, dict) else None,
        "state": snapshot(nested) if isinstance(nested, StateSnapshot) else None,
        "result": task.result,
    }


def _interrupt(item: Any) -> Json:
    return {"value": item.value, "id": item.id}


def _id(config: Any) -> str | None:
    return config["configurable"].get("checkpoint_id") if config else None


def _config(thread_id: str, checkpoint: Json | None) -> RunnableConfig:
    wanted = {key: value for key, value in (checkpoint or {}).items() if value is not None}
    return {"configurable": {"checkpoint_ns": "", **wanted, "thread_id": thread_id}}


def partial(graph: Graph, saver: RedisSaver, run: Run) -> list[Json]:
    """What each node has produced for a run so far, oldest first, whatever became of the run.

    ``status`` is ``done`` with ``result``, ``failed`` with ``error``, ``waiting`` with ``interrupts``, or ``open``: it
    is running, or will.
    """
    bound = seam.bind(graph, saver)
    config = _config(run.thread_id, None)
    found = [state for state in bound.get_state_history(config) if state.metadata and _is_of(state, run)]
    return [
        {"step": state.metadata.get("step", 0) + 1, **_produced(task)}
        for state in reversed(found)
        if state.metadata
        for task in state.tasks
        if task.name != seam.START
    ]


def _is_of(state: StateSnapshot, run: Run) -> bool:
    return bool(state.metadata) and dict(state.metadata or {}).get("run_id") == run.run_id


def _produced(task: Any) -> Json:
    told = {"node": task.name, "task_id": task.id}
    if task.error is not None:
        return {**told, "status": "failed", "error": _task(task)["error"]}
    if task.interrupts:
        return {**told, "status": "waiting", "interrupts": [_interrupt(item) for item in task.interrupts]}
    if task.result is not None:
        return {**told, "status": "done", "result": task.result}
    return {**told, "status": "open"}
