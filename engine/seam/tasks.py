"""One task of a superstep: where it belongs, what it has written, and how to run it in other ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph._internal._constants import CONFIG_KEY_CALL, PUSH, TASKS
from langgraph.graph.state import _CHANNEL_BRANCH_TO
from langgraph.pregel._task_status import CONTROL_WRITES
from langgraph.pregel._utils import _runnable_has_native_async
from langgraph.types import PregelExecutableTask

NAMESPACE_SEPARATOR = "|"
#: The channel of an edge begins so, and ends with the node it leads to.
_BRANCH_TO = _CHANNEL_BRANCH_TO.removesuffix("{}")
#: In the path of a task that runs an error handler.
_HANDLER = "node_error_handler"


def step_of(task: PregelExecutableTask) -> int:
    """The number of the superstep that a task is of."""
    return int(task.config.get("metadata", {})["langgraph_step"])


def is_sent(task: PregelExecutableTask) -> bool:
    """Whether a task was made by a ``Send``."""
    return bool(task.path[0] == PUSH)


def is_root(task: PregelExecutableTask) -> bool:
    """Whether a task is a node of the run's own graph, rather than one of a subgraph or a call inside a node."""
    return NAMESPACE_SEPARATOR not in namespace(task) and not is_call(task)


def failed_of(task: PregelExecutableTask) -> str | None:
    """The id of the root task whose failure this task, an error handler, is to handle."""
    if _HANDLER not in task.path:
        return None
    failed, _, own = namespace(task).partition(NAMESPACE_SEPARATOR)
    return failed.rpartition(":")[2] if own and NAMESPACE_SEPARATOR not in own else None


def namespace(task: PregelExecutableTask) -> str:
    """The checkpoint namespace of a task: its node and id, after those of the tasks whose graphs it is in."""
    return str(task.config["configurable"].get("checkpoint_ns", ""))


def is_call(task: PregelExecutableTask) -> bool:
    """A ``@task`` call of the functional API: its caller waits for it, so it is nobody's sibling.

    Paths: (PULL, node), (PUSH, index of the Send, False), (PUSH, caller's path, index of the call, True).
    """
    return task.path[0] == PUSH and task.path[-1] is True


def superstep(configurable: Mapping[str, Any]) -> dict[str, PregelExecutableTask]:
    """All tasks of the superstep that a task is submitted in, by id: also those that LangGraph does not run, because
    what they had saved, or its cache, stands in for them. They have their writes by then, and no other task has."""
    every = configurable[CONFIG_KEY_CALL].keywords["schedule_task"].__self__.tasks
    return {task_id: task for task_id, task in every.items() if failed_of(task) is None}


def destinations(task: PregelExecutableTask) -> tuple[list[str], int]:
    """Where a finished task's writes lead to, in order, and how many keys of the state it has written."""
    targets: list[str] = []
    written = 0
    for channel, value in task.writes:
        if channel.startswith(_BRANCH_TO):
            targets.append(channel[len(_BRANCH_TO) :])
        elif channel == TASKS:
            targets.append(value.node)
        elif not channel.startswith("__"):
            written += 1
    return targets, written


def is_sync(task: PregelExecutableTask) -> bool:
    """Whether a node is a plain function, which runs in a thread and cannot be cancelled."""
    return not _runnable_has_native_async(getattr(task.proc, "steps", (task.proc,))[0])


async def stand_in(task: PregelExecutableTask, value: Any) -> None:
    """Finish a task with ``value`` as if its node had returned it: the same writes, the same edges."""
    task.writes.clear()
    for writer in task.writers:
        await writer.ainvoke(value, task.config)


def drop_output(task: PregelExecutableTask) -> None:
    """Forget what a failed task has written before one of its edges failed.

    LangGraph would save it with the error, and take the task for finished the next time: without the edges, and often
    with nothing left to do.
    """
    kept = [write for write in task.writes if write[0] in CONTROL_WRITES]
    task.writes.clear()
    task.writes.extend(kept)
