"""The graphs of a project, loaded when they are asked for and kept.

One graph that cannot be loaded never takes the others down: it raises GraphBroken, again and again, and says why.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import TypeVar
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig

from runyard.graphs.errors import GraphBroken, GraphConfigError, GraphsError, UnknownGraph
from runyard.graphs.factories import Factory, Graph, Runtime, as_target, asettle, needs_loop, server_runtime, settle
from runyard.graphs.loops import LoopThread
from runyard.graphs.modules import load_object
from runyard.graphs.project import GraphSpec, Project, load_project

__all__ = [
    "Graph",
    "GraphBroken",
    "GraphConfigError",
    "GraphSpec",
    "GraphsError",
    "Project",
    "Registry",
    "UnknownGraph",
    "load_object",
    "load_project",
    "server_runtime",
]

T = TypeVar("T")
LoopLocks = WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[str, asyncio.Lock]]

# A module that calls sys.exit() while it is imported must not take the worker with it.
BREAKS = (Exception, SystemExit)


class Registry:
    """Loads graphs by id. One per process, made after forking; every method may be called from any thread.

    A graph is kept for the life of the process, unless its factory takes the run's config or runtime: then it is made
    anew for each call. A failed import is remembered; a factory that raised is tried again, since a database that was
    away comes back. The graph that is returned is shared: copy it to give it a checkpointer.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._locks = {graph_id: threading.RLock() for graph_id in project.graphs}
        self._loop_locks: LoopLocks = WeakKeyDictionary()
        self._targets: dict[str, Graph | Factory] = {}
        self._failures: dict[str, BaseException] = {}
        self._made: dict[str, Graph] = {}
        self._kept, self._kept_async = ExitStack(), AsyncExitStack()
        self._loop = LoopThread("graph-factories")

    def graph_ids(self) -> list[str]:
        """Every graph of the project, broken or not, in the order of the file."""
        return list(self.project.graphs)

    def spec(self, graph_id: str) -> GraphSpec:
        """Where a graph is said to be. Raises UnknownGraph."""
        try:
            return self.project.graphs[graph_id]
        except KeyError:
            raise UnknownGraph(graph_id, self.project.graphs) from None

    def load(self, graph_id: str, config: RunnableConfig | None = None, *, runtime: Runtime | None = None) -> Graph:
        """The compiled graph. Raises UnknownGraph or GraphBroken.

        An async factory runs on a loop of the registry's own: in a process that has a loop, prefer `aload`. What a
        per-run context manager opened stays open until `close`: for such graphs prefer `open`.
        """
        return self._load(self.spec(graph_id), config, runtime, self._kept)

    async def aload(
        self, graph_id: str, config: RunnableConfig | None = None, *, runtime: Runtime | None = None
    ) -> Graph:
        """Like `load`, without blocking the event loop; async factories run on the caller's loop. Same cache."""
        return await self._aload(self.spec(graph_id), config, runtime, self._kept_async)

    @contextmanager
    def open(
        self, graph_id: str, config: RunnableConfig | None = None, *, runtime: Runtime | None = None
    ) -> Iterator[Graph]:
        """The graph for as long as the block lasts: a per-run context manager factory is left with it."""
        with ExitStack() as managers:
            yield self._load(self.spec(graph_id), config, runtime, managers)

    def aopen(
        self, graph_id: str, config: RunnableConfig | None = None, *, runtime: Runtime | None = None
    ) -> AbstractAsyncContextManager[Graph]:
        """Like `open`, without blocking the event loop."""
        ready = self._targets.get(graph_id)
        if ready is None or isinstance(ready, Factory):
            return self._aopened(graph_id, config, runtime)
        return nullcontext(ready)  # nothing to leave: a run that waits is to keep little meanwhile

    @asynccontextmanager
    async def _aopened(
        self, graph_id: str, config: RunnableConfig | None, runtime: Runtime | None
    ) -> AsyncIterator[Graph]:
        async with AsyncExitStack() as managers:
            yield await self._aload(self.spec(graph_id), config, runtime, managers)

    def check_all(self) -> dict[str, GraphBroken | None]:
        """Try every graph and tell which are broken; per-run factories are tried with an empty config."""
        return {graph_id: self._check(graph_id) for graph_id in self.project.graphs}

    def close(self) -> None:
        """Leave the context managers that sync loading entered. Closing again does nothing; load nothing afterwards."""
        self._kept.close()
        self._loop.stop()

    async def aclose(self) -> None:
        """Leave all context managers; call it on the loop that loaded the graphs."""
        await self._kept_async.aclose()
        await asyncio.to_thread(self.close)

    def _check(self, graph_id: str) -> GraphBroken | None:
        try:
            with self.open(graph_id):
                return None
        except GraphBroken as broken:
            return broken
        except BREAKS as cause:  # the factory's own way out of its context manager
            return _broken(self.spec(graph_id), cause)

    def _target(self, spec: GraphSpec) -> Graph | Factory:
        """What the attribute holds: imported once, and once only when it fails."""
        with self._locks[spec.id]:
            if spec.id not in self._targets and spec.id not in self._failures:
                self._import(spec)
        if failure := self._failures.get(spec.id):
            raise _broken(spec, failure) from failure
        return self._targets[spec.id]

    def _import(self, spec: GraphSpec) -> None:
        try:
            self._targets[spec.id] = as_target(load_object(spec.path, spec.attribute, self.project.root), spec.id)
        except BREAKS as cause:
            self._failures[spec.id] = cause

    def _load(
        self, spec: GraphSpec, config: RunnableConfig | None, runtime: Runtime | None, managers: ExitStack
    ) -> Graph:
        target = self._target(spec)
        if not isinstance(target, Factory):
            return target
        if target.per_run:
            return self._make(spec, target, config, runtime, managers)
        with self._locks[spec.id]:
            if spec.id not in self._made:
                self._made[spec.id] = self._make(spec, target, None, None, self._kept)
            return self._made[spec.id]

    async def _aload(
        self, spec: GraphSpec, config: RunnableConfig | None, runtime: Runtime | None, managers: AsyncExitStack
    ) -> Graph:
        target = self._targets.get(spec.id)
        if target is None:
            target = await asyncio.to_thread(self._target, spec)
        if not isinstance(target, Factory):
            return target
        if target.per_run:
            return await self._amake(spec, target, config, runtime, managers)
        if spec.id in self._made:
            return self._made[spec.id]
        async with self._loop_lock(spec.id):
            if spec.id not in self._made:
                made = await self._amake(spec, target, None, None, self._kept_async)
                self._made.setdefault(spec.id, made)
            return self._made[spec.id]

    def _loop_lock(self, graph_id: str) -> asyncio.Lock:
        # asyncio's locks belong to one loop, and a thread's lock must not be held over an await.
        with self._locks[graph_id]:
            locks = self._loop_locks.setdefault(asyncio.get_running_loop(), defaultdict(asyncio.Lock))
            return locks[graph_id]

    def _make(
        self,
        spec: GraphSpec,
        factory: Factory,
        config: RunnableConfig | None,
        runtime: Runtime | None,
        managers: ExitStack,
    ) -> Graph:
        try:
            value = factory(config, runtime)
            if not needs_loop(value):
                return settle(value, spec.id, managers)
            on_loop = AsyncExitStack()
            managers.callback(lambda: self._loop.run(on_loop.aclose()))
            return self._loop.run(asettle(value, spec.id, on_loop))
        except BREAKS as cause:
            raise _broken(spec, cause) from cause

    async def _amake(
        self,
        spec: GraphSpec,
        factory: Factory,
        config: RunnableConfig | None,
        runtime: Runtime | None,
        managers: AsyncExitStack,
    ) -> Graph:
        try:
            value = await asyncio.to_thread(factory, config, runtime)
            return await asettle(value, spec.id, managers)
        except BREAKS as cause:
            raise _broken(spec, cause) from cause


def _broken(spec: GraphSpec, cause: BaseException) -> GraphBroken:
    return GraphBroken(spec.id, spec.path, spec.attribute, cause)
