"""What a checkpoint says of the superstep that waits at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langgraph._internal._constants import INTERRUPT
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.constants import START
from langgraph.pregel._task_status import read_task_statuses


def interrupts_of(saved: CheckpointTuple | None) -> dict[str, Any]:
    """What each task of the waiting superstep asked and has saved: task id to its interrupts."""
    writes = saved.pending_writes or [] if saved else []
    return {task_id: value for task_id, channel, value in writes if channel == INTERRUPT}


def outputs_of(saved: CheckpointTuple | None) -> dict[str, Sequence[tuple[str, Any]]]:
    """What the finished tasks of the waiting superstep have written: task id to its writes."""
    statuses = read_task_statuses(saved.pending_writes or []) if saved else {}
    return {task_id: status.output for task_id, status in statuses.items() if status.output}


def stopped_at_breakpoint(
    saved: CheckpointTuple, parent: CheckpointTuple | None, upcoming: Iterable[str], before: Any, after: Any
) -> bool:
    """Whether LangGraph would have stopped at this checkpoint, had its process lived to see it.

    A run that is taken up again passes the breakpoints of its first superstep, because a client's resume must. When
    the worker died between saving a checkpoint and stopping there, the runtime has to stop in its place.
    """
    seen = saved.checkpoint["versions_seen"]
    known = parent.checkpoint["versions_seen"] if parent else {}
    ran = {name for name, versions in seen.items() if versions != known.get(name)}
    return _any_of(set(upcoming), before) or _any_of(ran - {INTERRUPT, START}, after)


def _any_of(names: set[str], wanted: Any) -> bool:
    return bool(names) if wanted == "*" else not names.isdisjoint(wanted or ())
