"""What LangGraph hands the tasks of a superstep to."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from langgraph._internal._constants import CONFIG_KEY_RESUMING, CONFIG_KEY_RUNTIME
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.runtime import RunControl, Runtime
from langgraph.types import PregelExecutableTask, RetryPolicy

from runyard.engine.seam.attempts import attempt
from runyard.engine.seam.graphs import StepsLeft
from runyard.engine.seam.tasks import (
    NAMESPACE_SEPARATOR,
    drop_output,
    failed_of,
    is_call,
    is_root,
    namespace,
    superstep,
)

#: Asked of the same few functions for every task.
_is_coroutine_function = cache(inspect.iscoroutinefunction)
_UNLIMITED: AbstractAsyncContextManager[None] = nullcontext()


class NotHere(GraphBubbleUp):
    """This task belongs to another worker."""


class Afterwards(Exception):
    """Raised by ``execute`` for what may wait for siblings, and must not take a place among those that run at once."""

    def __init__(self, go_on: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self.go_on = go_on


#: Makes the attempt of a task that has this number (1-based).
Once = Callable[[int], Awaitable[Any]]
Execute = Callable[[PregelExecutableTask, Once, Sequence[RetryPolicy]], Awaitable[Any]]
#: Told of all tasks of a superstep before the first one starts.
Begin = Callable[[Mapping[str, PregelExecutableTask]], None]


@dataclass(eq=False, slots=True)
class _Siblings:
    """The tasks of one superstep of one graph. A failure waits here until the others have ended and were saved."""

    running: int = 0
    held: int = 0
    tasks: list[PregelExecutableTask] = field(default_factory=list)
    #: Set once none of them runs any more; made by who waits for that first.
    ended: asyncio.Event | None = None

    def check(self) -> None:
        if self.ended is not None and self.held >= self.running:
            self.ended.set()


class TaskRunner:
    """What LangGraph hands its tasks to instead of its own executor.

    - ``admit(task, siblings)`` is called before a root task starts, with all tasks of its superstep; it may raise
      NotHere, or another bubble-up, to leave the task without writes.
    - A task that fails for good raises only after its siblings have ended: plain async fan-out would cancel them and
      lose their work.
    - A task that an error handler waits for raises at once; LangGraph then runs the handler beside the siblings.
    - A node, and the graphs it calls, see ``control`` instead of the slice's own: a slice that is used up ends at the
      edge of the run's superstep, not inside a subgraph, whose caller would start over.
    - ``admit`` is also asked for the error handler of a root task. LangGraph starts it anew in every slice that finds
      the failure; what it has ``saved`` stands in for it.
    - ``begun(task)`` is asked in the first superstep of a slice: whether a subgraph of the task has saved something in
      this superstep. If not, subgraphs must not take the slice's going on for theirs: one that remembers
      (``checkpointer=True``) would go on from the last turn and ignore what it is given.
    - ``execute(task, once, policies)`` runs a root task: ``once(number)`` is one attempt, without LangGraph's retries.
    - ``begin(tasks)`` is told of a superstep of root tasks, ``left(task)`` of each of them that is not run (any more).
    """

    __slots__ = (
        "_admit", "_begin", "_begun", "_control", "_execute", "_futures", "_handled", "_left", "_limit", "_loop",
        "_saved", "_siblings", "failures", "interrupts", "restored",
    )  # fmt: skip

    def __init__(
        self,
        admit: Callable[[PregelExecutableTask, list[PregelExecutableTask]], None],
        *,
        handled: Mapping[str, str],
        max_concurrency: int | None = None,
        execute: Execute | None = None,
        control: RunControl | None = None,
        saved: Mapping[str, Sequence[tuple[str, Any]]] | None = None,
        begun: Callable[[PregelExecutableTask], Awaitable[bool]] | None = None,
        begin: Begin | None = None,
        left: Callable[[PregelExecutableTask], None] = lambda _: None,
    ) -> None:
        self._admit, self._execute, self._control = admit, execute, control
        self._begin, self._left = begin, left
        self._saved, self._begun = saved or {}, begun
        self._handled = handled
        self._limit = asyncio.Semaphore(max_concurrency) if max_concurrency else None
        self._siblings: dict[str, _Siblings] = {}
        self._futures: set[asyncio.Future[Any]] = set()
        self._loop = asyncio.get_running_loop()
        #: Root tasks that were interrupted here, and what they ask.
        self.interrupts: dict[str, Any] = {}
        #: What root tasks failed with for good, first first. LangGraph raises any one of what a superstep raised, a
        #: bubble-up as readily as a failure, so who needs to know must look here.
        self.failures: list[Exception] = []
        #: Error handlers that what they had saved stood in for, by name, each as often as it happened.
        self.restored: list[str] = []

    def __call__(self) -> Callable[..., Any]:
        """LangGraph holds its executor by a weak reference, so it calls this to get at it."""
        return self.submit

    async def alone(self, fn: Callable[..., Any], task: PregelExecutableTask, *args: Any, **kwargs: Any) -> Any:
        """Run the only task of a superstep of the run's own graph: nothing goes on beside it, so it needs no asyncio
        task."""
        asks = asyncio.current_task()
        cancels = asks.cancelling() if asks is not None else 0
        siblings = self._join(task, True, kwargs.get("configurable", {}))
        result = await self._attempt(siblings, True, fn, task, args, kwargs)
        if asks is not None and asks.cancelling() > cancels:
            raise asyncio.CancelledError  # which the node took no notice of, as a task it could not have kept from us
        return result

    def submit(  # the names are LangGraph's
        self,
        fn: Callable[..., Any],
        task: PregelExecutableTask,
        *args: Any,
        __name__: str | None = None,  # noqa: A002
        __cancel_on_exit__: bool = False,  # noqa: ARG002 - `close` does
        __reraise_on_exit__: bool = True,  # noqa: ARG002 - the runner raises
        __next_tick__: bool = False,  # noqa: ARG002 - a task always starts later
        **kwargs: Any,
    ) -> Any:
        fn = getattr(fn, "__wrapped__", fn)
        if not _is_coroutine_function(fn):  # a graph that a sync node invokes, in a thread of its own
            return _in_thread(fn, task, *args, name=__name__, **kwargs)
        root = is_root(task)
        siblings = self._join(task, root, kwargs.get("configurable", {}))
        future = self._loop.create_task(self._attempt(siblings, root, fn, task, args, kwargs), name=__name__)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        for future in list(self._futures):
            future.cancel()
        if self._futures:
            await asyncio.wait(self._futures)

    def _join(self, task: PregelExecutableTask, root: bool, configurable: Mapping[str, Any]) -> _Siblings | None:
        if is_call(task):
            return None
        parent = "" if root or failed_of(task) else namespace(task).rpartition(NAMESPACE_SEPARATOR)[0]
        siblings = self._siblings.get(parent)
        if siblings is None or siblings.running == 0:
            siblings = self._siblings[parent] = _Siblings()
            if self._begin is not None and root:
                self._begin(superstep(configurable))
        siblings.running += 1
        siblings.tasks.append(task)
        return siblings

    async def _attempt(
        self,
        siblings: _Siblings | None,
        root: bool,
        fn: Callable[..., Any],
        task: PregelExecutableTask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        try:
            # Handed on as they are: each layer would keep a copy as long as the node waits.
            return await (self._run_root if root else self._run)(siblings, fn, task, args, kwargs)
        except GraphInterrupt as error:
            if root and error.args and error.args[0]:
                self.interrupts[task.id] = error.args[0]
            raise
        except GraphBubbleUp:
            raise
        except Exception as error:
            if siblings is not None and task.name not in self._handled:
                drop_output(task)
                if root:
                    self.failures.append(error)
                await self._hold(siblings)
            raise
        finally:
            if siblings is not None:
                self._leave(siblings, root, task)

    def _leave(self, siblings: _Siblings, root: bool, task: PregelExecutableTask) -> None:
        siblings.running -= 1
        siblings.check()
        if root:
            self._left(task)

    async def _run_root(
        self,
        siblings: _Siblings | None,
        fn: Callable[..., Any],
        task: PregelExecutableTask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self._admit(task, siblings.tasks if siblings else [task])
        self._dress(task)
        resumes = task.config["configurable"].get(CONFIG_KEY_RESUMING)
        if resumes and self._begun is not None and not await self._begun(task):
            task.config["configurable"][CONFIG_KEY_RESUMING] = False
        if self._execute is None:
            async with self._limit or _UNLIMITED:
                return await fn(task, *args, **kwargs)
        once = partial(attempt, fn, task, kwargs)
        policies = task.retry_policy or (args[0] if args else ()) or ()
        try:
            if self._limit is None:
                return await self._execute(task, once, policies)
            async with self._limit:
                return await self._execute(task, once, policies)
        except Afterwards as afterwards:
            go_on = afterwards.go_on
        return await go_on()

    async def _run(
        self,
        siblings: _Siblings | None,
        fn: Callable[..., Any],
        task: PregelExecutableTask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What is within a root task, or handles its failure."""
        if failed_of(task):
            self._admit(task, [task])
            if task.id in self._saved:
                task.writes.extend(self._saved[task.id])
                self.restored.append(task.name)
                return None
        async with (self._limit if siblings is not None else None) or _UNLIMITED:
            return await fn(task, *args, **kwargs)

    def _dress(self, task: PregelExecutableTask) -> None:
        """Give a node the run's view of things, not the slice's."""
        left, configurable = task.config.get("recursion_limit"), task.config["configurable"]
        if isinstance(left, StepsLeft):
            task.config["recursion_limit"] = left.asked
        if isinstance(runtime := configurable.get(CONFIG_KEY_RUNTIME), Runtime):
            configurable[CONFIG_KEY_RUNTIME] = runtime.override(control=self._control)

    async def _hold(self, siblings: _Siblings) -> None:
        ended = siblings.ended = siblings.ended or asyncio.Event()
        siblings.held += 1
        try:
            siblings.check()
            await ended.wait()
        finally:
            siblings.held -= 1


def _in_thread(fn: Callable[..., Any], *args: Any, name: str | None, **kwargs: Any) -> concurrent.futures.Future[Any]:
    """Run in a thread of its own: a bounded pool would deadlock on graphs that invoke graphs."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    context = copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(context.run(fn, *args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - a future carries whatever was raised to its waiter
            future.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
