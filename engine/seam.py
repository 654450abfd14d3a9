"""The only module that touches LangGraph's private parts. ``tests/unit/test_seam.py`` fails loudly when they move.

Verified with langgraph 1.2.22, which is why setup.cfg pins the minor version.

One private hook does most of it: ``configurable["__pregel_runner_submit"]`` sees every task of a superstep before it
starts. A bubble-up raised from the future it returns leaves that task without writes and stops no sibling.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import inspect
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import patch_configurable
from langgraph._internal._constants import (
    CONFIG_KEY_CALL,
    CONFIG_KEY_RESUMING,
    CONFIG_KEY_RUNNER_SUBMIT,
    CONFIG_KEY_RUNTIME,
    CONFIG_KEY_SEND,
    CONFIG_KEY_STREAM_MESSAGES_V2,
    ERROR,
    INTERRUPT,
    NULL_TASK_ID,
    PUSH,
    TASKS,
)
from langgraph._internal._serde import apply_checkpointer_allowlist
from langgraph._internal._typing import MISSING
from langgraph.channels import UntrackedValue
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple
from langgraph.constants import START
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.graph.state import _CHANNEL_BRANCH_TO
from langgraph.pregel import Pregel
from langgraph.pregel._retry import _reset_interrupt_counter
from langgraph.pregel._task_status import CONTROL_WRITES, read_task_statuses
from langgraph.pregel._utils import _runnable_has_native_async
from langgraph.pregel._write import ChannelWrite
from langgraph.runtime import RunControl, Runtime
from langgraph.types import PregelExecutableTask, RetryPolicy

__all__ = ["ERROR", "INTERRUPT", "NULL_TASK_ID", "RUNNER_SUBMIT", "START", "NotHere", "StepsLeft", "TaskRunner", "bind"]

RUNNER_SUBMIT = CONFIG_KEY_RUNNER_SUBMIT
Shape = dict[str, dict[str, Any]]
#: Set in `configurable`, models tell their messages as content blocks instead of chunks.
CONTENT_BLOCKS = CONFIG_KEY_STREAM_MESSAGES_V2
_NAMESPACE_SEPARATOR = "|"
#: The channel of an edge begins so, and ends with the node it leads to.
_BRANCH_TO = _CHANNEL_BRANCH_TO.removesuffix("{}")
#: In the path of a task that runs an error handler.
_HANDLER = "node_error_handler"


#: A time limit for supersteps that is none, but not None: LangGraph takes it for "there is one" when it decides how to
#: run a lone task, and for "there is none" when it waits. A real one, however long, would have it wait through
#: ``asyncio.wait_for``, which loses a cancellation now and then before Python 3.12.
_UNLIMITED_S = 0


class NotHere(GraphBubbleUp):
    """This task belongs to another worker."""


class StepsLeft(int):
    """A recursion limit for the rest of a run: what is left of ``asked``, also when that is nothing.

    LangGraph counts the limit from the checkpoint it starts at and refuses one below 1. A slice may start at the very
    step where the whole run is to be stopped, and must be stopped there, with the words of the whole run.
    """

    asked: int

    def __new__(cls, left: int, *, asked: int) -> Self:
        made = super().__new__(cls, left)
        made.asked = asked
        return made

    def __lt__(self, other: int) -> bool:
        return False

    def __format__(self, spec: str) -> str:
        return format(self.asked, spec)


def bind(
    graph: Pregel[Any, Any, Any, Any], saver: BaseCheckpointSaver[Any], **parts: Any
) -> Pregel[Any, Any, Any, Any]:
    """A copy of a shared graph with a checkpointer of its own. Cheap (about 0.03 ms); ``parts`` go to the copy too.

    The list of types the graph's state may hold goes along: LangGraph's own ``copy`` forgets it. And a superstep has a
    time limit, if only one that is none: without it, or streams that cost a task that waits, a lone task would be run
    past TaskRunner.
    """
    types = graph._serde_allowlist  # noqa: SLF001 - this module is where that is allowed
    allowed = apply_checkpointer_allowlist(saver, types)
    bound = graph.copy(update={"checkpointer": allowed, **parts})
    bound._serde_allowlist = types  # noqa: SLF001
    bound.step_timeout = graph.step_timeout or _UNLIMITED_S
    return bound


def may_stop(graph: Pregel[Any, Any, Any, Any], before: Any, after: Any) -> bool:
    """Whether a run may stop at a breakpoint: its own (``before``, ``after``), or one of the graph's."""
    return bool(before or after or graph.interrupt_before_nodes or graph.interrupt_after_nodes)


def runs_nothing_next(graph: Pregel[Any, Any, Any, Any], checkpoint: Checkpoint, source: str) -> bool:
    """Whether no node is to run before the next checkpoint or the end: after an input that START takes, and after the
    last checkpoint. False when that cannot be told."""
    if source == "input":
        return START in graph.nodes
    changed = checkpoint.get("updated_channels")
    return bool(changed) and TASKS not in changed and graph.trigger_to_nodes.keys().isdisjoint(changed)  # type: ignore[operator, arg-type]


def forgets(graph: Pregel[Any, Any, Any, Any]) -> bool:
    """Whether the graph's state holds values that LangGraph never saves: they last as long as one stretch of it."""
    return any(isinstance(channel, UntrackedValue) for channel in graph.channels.values())


def node_metadata(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Mapping[str, Any] | None]:
    """The metadata each node was added with."""
    return {name: node.metadata for name, node in graph.nodes.items() if name != START}


def shape(graph: Pregel[Any, Any, Any, Any], overrides: Mapping[str, Any] | None = None) -> Shape:
    """What a waiting run depends on: each node's triggers and inputs, each channel's kind, where nodes lead, and each
    node's policies, LangGraph's and ours; ``overrides`` are what configuration says of nodes."""
    return {
        "nodes": {
            name: {"triggers": sorted(node.triggers), "reads": _channels(node.channels)}
            for name, node in sorted(graph.nodes.items())
        },
        "channels": {name: type(channel).__name__ for name, channel in sorted(graph.channels.items())},
        "edges": {"all": _edges(graph)},
        "policies": {
            name: said for name, node in sorted(graph.nodes.items()) if (said := _said(name, node, overrides))
        },
    }


def fingerprint(graph: Pregel[Any, Any, Any, Any], overrides: Mapping[str, Any] | None = None) -> str:
    """16 hex digits that change when nodes, edges, what nodes read, channels, or policies change; the same in every
    process."""
    return hashlib.sha256(json.dumps(shape(graph, overrides), sort_keys=True).encode()).hexdigest()[:16]


def _said(name: str, node: Any, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """The policies of one node; what is not said is left out."""
    said = {
        "code": (node.metadata or {}).get("runyard"),
        "configuration": (overrides or {}).get(name),
        "retry": node.retry_policy,
        "timeout": node.timeout,
        "cache": node.cache_policy,
        "error_handler": node.error_handler_node,
    }
    return {key: _plain(value) for key, value in said.items() if value}


def _plain(value: Any) -> Any:
    """A policy as JSON that is the same in every process: code by its name, parts of it one by one."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if hasattr(value, "_asdict"):  # a NamedTuple
        return _plain(value._asdict())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def waiting_nodes(old: Shape, saved: CheckpointTuple) -> set[str]:
    """Which nodes were next at a checkpoint, in the graph as it was then."""
    checkpoint = saved.checkpoint
    versions: Mapping[str, Any] = checkpoint["channel_versions"]
    triggered = {
        name
        for name, node in old["nodes"].items()
        for trigger in node["triggers"]
        if trigger in versions and _is_newer(versions[trigger], checkpoint["versions_seen"].get(name, {}).get(trigger))
    }
    sends = {send.node for send in checkpoint["channel_values"].get(TASKS, ())}
    return (triggered - {START}) | sends


def _is_newer(version: Any, seen: Any) -> bool:
    return seen is None or version > seen


def difference(old: Shape, new: Shape) -> str:
    """How a graph has changed, in a sentence a person can read."""
    parts = []
    for kind in ("nodes", "channels", "policies"):
        then, now = old.get(kind, {}), new.get(kind, {})
        gone, come = sorted(then.keys() - now.keys()), sorted(now.keys() - then.keys())
        changed = sorted(name for name in then.keys() & now.keys() if then[name] != now[name])
        words = (("removed", gone), ("added", come), ("changed", changed))
        parts += [f"{kind} {word}: {', '.join(names)}" for word, names in words if names]
    return "; ".join(parts) or "where its nodes lead"


@dataclass(frozen=True, slots=True)
class Routes:
    """How a node's successor is found: the routers of its conditional edges, and where its plain edges lead."""

    routers: tuple[str, ...]
    static: frozenset[str]


def routes(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Routes]:
    """The ways out of each node; of a graph that was not made with StateGraph, none."""
    builder = getattr(graph, "builder", None)
    if builder is None:
        return {}
    return {
        name: Routes(
            tuple(builder.branches.get(name, ())), frozenset(end for start, end in builder.edges if start == name)
        )
        for name in graph.nodes
    }


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


def _edges(graph: Pregel[Any, Any, Any, Any]) -> list[Any]:
    """Where each node leads. A compiled graph has that inside its writers only; its builder still knows."""
    builder: Any = getattr(graph, "builder", None)
    if builder is None:  # the functional API, or a Pregel made by hand
        return []
    waiting = [(sorted(starts), end) for starts, end in builder.waiting_edges]
    branches = [
        (start, name, sorted((str(key), end) for key, end in (branch.ends or {}).items()))
        for start, named in builder.branches.items()
        for name, branch in named.items()
    ]
    return [sorted(builder.edges), sorted(waiting), sorted(branches)]


def _channels(channels: str | list[str]) -> list[str]:
    return [channels] if isinstance(channels, str) else sorted(channels)


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


async def with_events(records: AsyncIterator[Any], *, nested: bool) -> AsyncIterator[Any]:
    """The parts of a stream out of ``astream_events``; records that carry none are parts of `events`."""
    root = ""
    async for record in records:
        root = root or record["run_id"]
        if record["event"] == "on_chain_stream" and record["run_id"] == root:
            yield record["data"]["chunk"]
        else:
            yield ((), "events", record) if nested else ("events", record)


def step_of(task: PregelExecutableTask) -> int:
    """The number of the superstep that a task is of."""
    return int(task.config.get("metadata", {})["langgraph_step"])


def is_sent(task: PregelExecutableTask) -> bool:
    """Whether a task was made by a ``Send``."""
    return bool(task.path[0] == PUSH)


def is_root(task: PregelExecutableTask) -> bool:
    """Whether a task is a node of the run's own graph, rather than one of a subgraph or a call inside a node."""
    return _NAMESPACE_SEPARATOR not in _namespace(task) and not _is_call(task)


def failed_of(task: PregelExecutableTask) -> str | None:
    """The id of the root task whose failure this task, an error handler, is to handle."""
    failed, _, own = _namespace(task).partition(_NAMESPACE_SEPARATOR)
    is_handler = _HANDLER in task.path and own and _NAMESPACE_SEPARATOR not in own
    return failed.rpartition(":")[2] if is_handler else None


def _namespace(task: PregelExecutableTask) -> str:
    return str(task.config["configurable"].get("checkpoint_ns", ""))


def _is_call(task: PregelExecutableTask) -> bool:
    """A ``@task`` call of the functional API: its caller waits for it, so it is nobody's sibling.

    Paths: (PULL, node), (PUSH, index of the Send, False), (PUSH, caller's path, index of the call, True).
    """
    return task.path[0] == PUSH and task.path[-1] is True


def _superstep(configurable: Mapping[str, Any]) -> dict[str, PregelExecutableTask]:
    """All tasks of the superstep that a task is submitted in, by id: also those that LangGraph does not run, because
    what they had saved, or its cache, stands in for them. They have their writes by then, and no other task has."""
    every = configurable[CONFIG_KEY_CALL].keywords["schedule_task"].__self__.tasks
    return {task_id: task for task_id, task in every.items() if failed_of(task) is None}


class Afterwards(Exception):
    """Raised by ``execute`` for what may wait for siblings, and must not take a place among those that run at once."""

    def __init__(self, go_on: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self.go_on = go_on


#: Runs one attempt of a task.
Once = Callable[[PregelExecutableTask], Awaitable[Any]]
Execute = Callable[[PregelExecutableTask, Once, Sequence[RetryPolicy]], Awaitable[Any]]
#: Told of all tasks of a superstep before the first one starts.
Begin = Callable[[Mapping[str, PregelExecutableTask]], None]


def single(task: PregelExecutableTask, attempt: int) -> PregelExecutableTask:
    """The task for its ``attempt``-th attempt (1-based), without LangGraph's retries. It shares the task's writes."""
    if attempt == 1 and not task.retry_policy:
        return task
    proc: Any = _Numbered(task.proc, attempt) if attempt > 1 else task.proc
    return replace(task, retry_policy=(), proc=proc)


class _Numbered:
    """A node that is told which attempt this is; its subgraphs resume and its interrupts count from the first again."""

    def __init__(self, proc: Any, attempt: int) -> None:
        self._proc, self._attempt = proc, attempt

    async def ainvoke(self, given: Any, config: RunnableConfig) -> Any:
        return await self._proc.ainvoke(given, self._patched(config))

    async def astream(self, given: Any, config: RunnableConfig) -> AsyncIterator[Any]:
        async for part in self._proc.astream(given, self._patched(config)):
            yield part

    def _patched(self, config: RunnableConfig) -> RunnableConfig:
        runtime = config["configurable"][CONFIG_KEY_RUNTIME].patch_execution_info(node_attempt=self._attempt)
        changes = {CONFIG_KEY_RESUMING: True, CONFIG_KEY_RUNTIME: runtime}
        return _reset_interrupt_counter(patch_configurable(config, changes))


def is_sync(task: PregelExecutableTask) -> bool:
    """Whether a node is a plain function, which runs in a thread and cannot be cancelled."""
    return not _runnable_has_native_async(getattr(task.proc, "steps", (task.proc,))[0])


async def stand_in(task: PregelExecutableTask, value: Any) -> None:
    """Finish a task with ``value`` as if its node had returned it: the same writes, the same edges."""
    task.writes.clear()
    for writer in task.writers:
        await writer.ainvoke(value, task.config)


def writes_of(graph: Pregel[Any, Any, Any, Any], node: str, value: Any) -> list[tuple[str, Any]]:
    """What a node that returns ``value`` writes, its conditional edges left out. Raises what LangGraph would."""
    written: list[tuple[str, Any]] = []
    config: RunnableConfig = {"configurable": {CONFIG_KEY_SEND: written.extend}}
    for writer in graph.nodes[node].flat_writers:
        if isinstance(writer, ChannelWrite):
            writer.invoke(value, config)
    return written


def channel_at(channel: BaseChannel[Any, Any, Any], name: str, values: Mapping[str, Any]) -> BaseChannel[Any, Any, Any]:
    """A channel as it is at a checkpoint with these ``values``."""
    return channel.from_checkpoint(values.get(name, MISSING))


def _drop_output(task: PregelExecutableTask) -> None:
    """Forget what a failed task has written before one of its edges failed.

    LangGraph would save it with the error, and take the task for finished the next time: without the edges, and often
    with nothing left to do.
    """
    kept = [write for write in task.writes if write[0] in CONTROL_WRITES]
    task.writes.clear()
    task.writes.extend(kept)


@dataclass(eq=False)
class _Siblings:
    """The tasks of one superstep of one graph. A failure waits here until the others have ended and were saved."""

    running: int = 0
    held: int = 0
    tasks: list[PregelExecutableTask] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        if self.held >= self.running:
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
    - ``execute(task, once, policies)`` runs a root task: ``once(task)`` is one attempt, without LangGraph's retries.
    - ``begin(tasks)`` is told of a superstep of root tasks, ``left(task)`` of each of them that is not run (any more).
    """

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
        if not inspect.iscoroutinefunction(fn):  # a graph that a sync node invokes, in a thread of its own
            return _in_thread(fn, task, *args, name=__name__, **kwargs)
        siblings = self._join(task, kwargs.get("configurable", {}))
        future = self._loop.create_task(self._attempt(siblings, fn, task, *args, **kwargs), name=__name__)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        for future in list(self._futures):
            future.cancel()
        if self._futures:
            await asyncio.wait(self._futures)

    def _join(self, task: PregelExecutableTask, configurable: Mapping[str, Any]) -> _Siblings | None:
        if _is_call(task):
            return None
        parent = "" if failed_of(task) else _namespace(task).rpartition(_NAMESPACE_SEPARATOR)[0]
        siblings = self._siblings.get(parent)
        if siblings is None or siblings.running == 0:
            siblings = self._siblings[parent] = _Siblings()
            if self._begin is not None and is_root(task):
                self._begin(_superstep(configurable))
        siblings.running += 1
        siblings.tasks.append(task)
        return siblings

    async def _attempt(
        self, siblings: _Siblings | None, fn: Callable[..., Any], task: PregelExecutableTask, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return await self._run(siblings, fn, task, *args, **kwargs)
        except GraphInterrupt as error:
            if is_root(task) and error.args and error.args[0]:
                self.interrupts[task.id] = error.args[0]
            raise
        except GraphBubbleUp:
            raise
        except Exception as error:
            if siblings is not None and task.name not in self._handled:
                _drop_output(task)
                if is_root(task):
                    self.failures.append(error)
                await self._hold(siblings)
            raise
        finally:
            if siblings is not None:
                self._leave(siblings, task)

    def _leave(self, siblings: _Siblings, task: PregelExecutableTask) -> None:
        siblings.running -= 1
        siblings.check()
        if is_root(task):
            self._left(task)

    async def _run(
        self, siblings: _Siblings | None, fn: Callable[..., Any], task: PregelExecutableTask, *args: Any, **kwargs: Any
    ) -> Any:
        root = siblings is not None and is_root(task)
        if siblings is not None and root:
            self._admit(task, siblings.tasks)
            await self._dress(task)
        elif failed_of(task):
            self._admit(task, [task])
            if task.id in self._saved:
                task.writes.extend(self._saved[task.id])
                self.restored.append(task.name)
                return None
        async with self._limit if self._limit is not None and siblings is not None else nullcontext():
            if not root or self._execute is None:
                return await fn(task, *args, **kwargs)
            policies, *rest = args
            try:
                return await self._execute(
                    task, lambda single: fn(single, None, *rest, **kwargs), task.retry_policy or policies or ()
                )
            except Afterwards as afterwards:
                go_on = afterwards.go_on
        return await go_on()

    async def _dress(self, task: PregelExecutableTask) -> None:
        """Give a node the run's view of things, not the slice's."""
        left, configurable = task.config.get("recursion_limit"), task.config["configurable"]
        if isinstance(left, StepsLeft):
            task.config["recursion_limit"] = left.asked
        if isinstance(runtime := configurable.get(CONFIG_KEY_RUNTIME), Runtime):
            configurable[CONFIG_KEY_RUNTIME] = runtime.override(control=self._control)
        if configurable.get(CONFIG_KEY_RESUMING) and self._begun is not None and not await self._begun(task):
            configurable[CONFIG_KEY_RESUMING] = False

    async def _hold(self, siblings: _Siblings) -> None:
        siblings.held += 1
        try:
            siblings.check()
            await siblings.ended.wait()
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
