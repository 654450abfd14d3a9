"""A lone task of a superstep goes through TaskRunner, too.

LangGraph hands the tasks of a superstep to :data:`RUNNER_SUBMIT` only where something goes on beside them. A task that
is alone it awaits itself, which takes half of what handing it over does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

from langgraph._internal._constants import CONFIG_KEY_RUNNER_SUBMIT
from langgraph.pregel import _runner
from langgraph.pregel._retry import arun_with_retry
from langgraph.types import PregelExecutableTask, RetryPolicy

from runyard.engine.seam.runner import TaskRunner
from runyard.engine.seam.tasks import is_root


@wraps(arun_with_retry)
async def run(task: PregelExecutableTask, retry_policy: Sequence[RetryPolicy] | None, *args: Any, **how: Any) -> Any:
    """What LangGraph runs a task with: its own way, unless it is a lone task of a run's own graph."""
    runner = task.config["configurable"].get(CONFIG_KEY_RUNNER_SUBMIT)
    if isinstance(runner, TaskRunner) and is_root(task):
        return await runner.alone(arun_with_retry, task, retry_policy, *args, **how)
    return await arun_with_retry(task, retry_policy, *args, **how)


#: PregelRunner finds it by this name: for tasks that it hands over, TaskRunner takes what this one wraps.
_runner.arun_with_retry = run  # type: ignore[attr-defined]
