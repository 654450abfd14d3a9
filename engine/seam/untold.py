"""A node without LangChain's events of it, where nobody listens to them.

LangGraph tells callbacks that a node begins and ends, and that each of its writers does: an eighth of what a superstep
costs. Attempts of root nodes are noted by :mod:`runyard.engine.node`, so that our own callbacks have no use for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.callbacks.manager import AsyncCallbackManager
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph._internal._config import patch_config
from langgraph._internal._runnable import RunnableSeq, set_config_context
from langgraph.types import PregelExecutableTask


class InsideNodes(BaseCallbackHandler):
    """A callback that has no use for the begin and end of root nodes: only for what happens inside them."""


def untold(task: PregelExecutableTask) -> Runnable[Any, Any]:
    """What runs a root task: as LangGraph made it, unless all that listen are :class:`InsideNodes`.

    A tracer, a client that streams messages or events, a callback of the graph's author: each is told of everything.
    """
    proc, callbacks = task.proc, task.config.get("callbacks")
    if type(proc) is not RunnableSeq or not isinstance(callbacks, AsyncCallbackManager):
        return proc
    return _Untold(proc) if all(isinstance(one, InsideNodes) for one in callbacks.handlers) else proc


class _Untold(Runnable[Any, Any]):
    """As RunnableSeq, but for its events. What the node calls has the run as its parent."""

    def __init__(self, told: RunnableSeq) -> None:
        self._told = told
        self.steps = told.steps

    def invoke(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> Any:  # noqa: A002 - its name
        return self._told.invoke(input, config, **more)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> Any:  # noqa: A002
        config = _inside(config or {})
        body, *writers = self.steps
        with set_config_context(config) as context:
            result = await asyncio.create_task(body.ainvoke(input, config, **more), context=context)
        for writer in writers:
            result = await writer.ainvoke(result, config)
        return result

    async def astream(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> AsyncIterator[Any]:  # noqa: A002
        async for part in self._told.astream(input, config, **more):
            yield part


def _inside(config: RunnableConfig) -> RunnableConfig:
    """The config for what a node calls, as if it had been told of."""
    told: AsyncCallbackManager = config["callbacks"]  # type: ignore[assignment]
    return patch_config(config, callbacks=_Later.of(told, config))


class _Later(AsyncCallbackManager):
    """The callbacks for what a node calls, made when they are first asked for anything: most nodes call nothing that
    would ask, and a run that waits has less to keep."""

    @classmethod
    def of(cls, told: AsyncCallbackManager, config: RunnableConfig) -> _Later:
        later = cls.__new__(cls)
        later.__dict__["_made_of"] = told, config
        return later

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet, or not at all."""
        made_of = self.__dict__.pop("_made_of", None)
        if made_of is None:
            raise AttributeError(name)
        told, config = made_of
        handlers = told.inheritable_handlers
        tags = list(dict.fromkeys([*told.inheritable_tags, *config.get("tags", ())]))
        metadata = {**told.inheritable_metadata, **config.get("metadata", {})}
        self.__init__(  # type: ignore[misc]  # only now
            [*handlers], [*handlers], told.parent_run_id, tags=tags, inheritable_tags=[*tags], metadata=metadata,
            inheritable_metadata={**metadata},
        )  # fmt: skip
        return getattr(self, name)
