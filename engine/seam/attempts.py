"""One attempt of a root task, without LangGraph's retries, and without telling anybody of it where nobody listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import patch_configurable
from langgraph._internal._constants import CONFIG_KEY_RESUMING, CONFIG_KEY_RUNTIME
from langgraph.pregel._retry import _reset_interrupt_counter
from langgraph.types import PregelExecutableTask

from runyard.engine.seam.untold import untold

#: How LangGraph runs a task: with its policies of retries, and by name (``how``) whether it streams and what its config
#: gets from whoever submits it.
Run = Callable[..., Awaitable[Any]]


async def attempt(run: Run, task: PregelExecutableTask, how: Mapping[str, Any], number: int) -> Any:
    """The ``number``-th attempt (1-based) of a task: what it returns, its writes in the task.

    A node that returns is run from here, for a third of what LangGraph takes. How else it ends is for LangGraph's
    ``run`` to say, which is given a node that ends so: a command for the graph around, an interrupt, a node that
    cancels itself. It also runs nodes with a time limit of their own, and in streams.
    """
    proc = untold(task)
    if how.get("stream") or task.timeout is not None:
        numbered: Any = _Numbered(proc, number) if number > 1 else proc
        return await run(replace(task, proc=numbered, retry_policy=()), None, **how)
    task.writes.clear()
    try:
        config = patch_configurable(task.config, how.get("configurable") or {})
        return await proc.ainvoke(task.input, _of_attempt(config, number))
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised again, as LangGraph would
        ends_so = _EndsSo(error, task)
    return await run(replace(task, proc=ends_so, retry_policy=()), None, **how)  # type: ignore[arg-type]


def _of_attempt(config: RunnableConfig, number: int) -> RunnableConfig:
    """The config for an attempt. Subgraphs of a later one resume, and its interrupts count from the first again."""
    runtime = config["configurable"][CONFIG_KEY_RUNTIME]
    info = runtime.execution_info
    if number == 1:
        # LangGraph has made it for this task alone, a moment ago: a copy, and one of what holds it, take 3 µs of each
        # node, and this 0.1.
        object.__setattr__(info, "node_first_attempt_time", time.time())
        return config
    began_at = info.node_first_attempt_time or time.time()
    numbered = replace(info, node_attempt=number, node_first_attempt_time=began_at)
    config["configurable"][CONFIG_KEY_RUNTIME] = replace(runtime, execution_info=numbered)
    config["configurable"][CONFIG_KEY_RESUMING] = True
    return _reset_interrupt_counter(config)


class _EndsSo:
    """A node that ends as one has ended: it writes what that had written, and raises what that has raised."""

    def __init__(self, error: BaseException, task: PregelExecutableTask) -> None:
        self._error, self._task, self._writes = error, task, list(task.writes)

    async def ainvoke(self, *_: Any) -> NoReturn:
        self._task.writes.extend(self._writes)
        raise self._error


class _Numbered:
    """A node that is told which attempt this is."""

    def __init__(self, proc: Any, number: int) -> None:
        self._proc, self._number = proc, number

    async def ainvoke(self, given: Any, config: RunnableConfig) -> Any:
        return await self._proc.ainvoke(given, self._patched(config))

    async def astream(self, given: Any, config: RunnableConfig) -> AsyncIterator[Any]:
        async for part in self._proc.astream(given, self._patched(config)):
            yield part

    def _patched(self, config: RunnableConfig) -> RunnableConfig:
        return _of_attempt(patch_configurable(config, {}), self._number)
