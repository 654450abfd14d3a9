"""A slice: some supersteps of a run, taken under one lease, and what they came to.

claim -> load the graph -> supersteps -> outcome. The outcome is a value; `commit` turns it into one script.
"""

from __future__ import annotations

import asyncio
import dataclasses
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphInterrupt
from langgraph.runtime import RunControl
from langgraph.types import Command, PregelExecutableTask, Send

from runyard.engine import redact, seam, wire
from runyard.engine.budget import Reached
from runyard.engine.callbacks import Callbacks
from runyard.engine.errors import EngineError, GraphChanged, GraphUnavailable, LeaseLost, StoreUnavailable
from runyard.engine.feed import Feed, modes_of
from runyard.engine.gate import Parks
from runyard.engine.leases import Held, Stop
from runyard.engine.ledger import Ledger
from runyard.engine.meter import Meter
from runyard.engine.node import NodeRunner, WaitsForRetry
from runyard.engine.policy import NodePolicy
from runyard.engine.protocol import PROTOCOL
from runyard.engine.run import (
    Advanced,
    Branch,
    Cancelled,
    Dispatched,
    Failed,
    Finished,
    Interrupted,
    Outcome,
    Phase,
    RetryLater,
    Run,
    TimedOut,
)
from runyard.engine.saver import RedisSaver, SliceSession
from runyard.engine.steps import Steps
from runyard.engine.store import runs
from runyard.engine.store.checkpoint_calls import place_of
from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.worker import Graph, Worker

#: So many parts of a superstep for each worker that is there for them.
PARTS_EACH = 4
Begun = Callable[[PregelExecutableTask], Awaitable[bool]]
#: Not the graph's doing: the slice ends without an outcome and the lease's end brings the run back.
NOT_AN_OUTCOME = (LeaseLost, StoreUnavailable)


async def run_slice(worker: Worker, claim: runs.Claim, held: Held, steps: Steps) -> Outcome:  # noqa: PLR0911 - one outcome each
    """Take a claimed run forward. What it has not saved by its end is left in ``steps``.

    Raises LeaseLost and StoreUnavailable; all else is an outcome.
    """
    run = claim.run
    if run.cancel:
        return Cancelled(run.cancel, resumable=run.entered != "")
    results = branch_results(claim.branches)
    if errors := [result["error"] for result in results if "error" in result]:
        return Failed(errors[0])
    if run.crashes >= worker.settings.max_crashes:
        return Failed(quarantined(run))
    if (
        claim.came_from == Phase.DISPATCHED
        and not run.cuts
        and (due := [result["retry_at"] for result in results if "retry_at" in result])
    ):
        return RetryLater(max(0, min(due) - claim.now_ms) / 1000)
    answered = {task_id for result in results for task_id in result.get("interrupted", ())}
    async with AsyncExitStack() as opened:
        try:
            prepared = await prepare(worker, claim, opened, steps)
            claim = await _without_grant(prepared, claim, results)
            run = claim.run
            if stop := await stop_before(worker, prepared, claim):
                return stop
        except NOT_AN_OUTCOME:
            raise
        except Exception as error:  # noqa: BLE001 - the graph cannot be loaded or does not fit: its author must know
            steps.begin()
            return failure(error)
        return await _Slice(worker, prepared, claim, held).run(answered)


async def _without_grant(prepared: Prepared, claim: runs.Claim, results: list[dict[str, Any]]) -> runs.Claim:
    """The claim, its run without an answer that was for a budget. An edge that a branch came to is the run's."""
    if prepared.meter is None:
        return claim
    prepared.meter.edge = next((Reached(**result["edge"]) for result in results if "edge" in result), None)
    return dataclasses.replace(claim, run=await prepared.meter.answered(claim.fence))


@dataclass(slots=True)
class Prepared:
    """A graph that is bound to the run's lease, and where its thread stands."""

    graph: Graph
    config: RunnableConfig
    policies: dict[str, NodePolicy]
    session: SliceSession
    steps: Steps
    fingerprint: str
    ledger: Ledger
    interrupts: dict[str, Any] = field(default_factory=dict)
    #: What the run does without, as later nodes read it: ``config["configurable"]["degraded"]``.
    degraded: list[dict[str, Any]] = field(default_factory=list)
    #: The graph that the thread's last run ran on, known in a run's first slice.
    thread_fingerprint: str = ""
    #: What finished tasks of the waiting superstep have written.
    outputs: dict[str, Sequence[tuple[str, Any]]] = field(default_factory=dict)
    #: The checkpoint that the slice starts from.
    start_id: str = ""
    #: Counts what the run spends, where there is a budget for it.
    meter: Meter | None = None
    #: Whether the run's input is all that this checkpoint holds: LangGraph tells its values to nobody.
    at_input: bool = False


async def prepare(
    worker: Worker,
    claim: runs.Claim | runs.BranchClaim,
    opened: AsyncExitStack,
    steps: Steps,
    saver: RedisSaver | None = None,
) -> Prepared:
    """Load the graph, which stays ``opened``, and the thread's latest checkpoint, in one round trip; in none for the
    first run of a thread."""
    run, fence = claim.run, claim.fence
    config = config_of(run, worker.settings.recursion_limit)
    try:
        shared = await opened.enter_async_context(worker.open_graph(run.graph_id, config))
    except Exception as error:  # whatever a user's module raises while it is imported
        raise GraphUnavailable(f"Graph {run.graph_id!r} cannot be loaded: {error}") from error
    run_key = worker.keys.of_run(run.run_id).run(run.run_id)
    session = SliceSession(
        fence=fence, run_key=run_key, run_id=run.run_id, steps=steps,
        runs_nothing_next=partial(seam.runs_nothing_next, shared),
    )  # fmt: skip
    graph = seam.bind(
        shared, (saver or worker.saver).bound(session), store=shared.store or worker.items.of_tenant(run.tenant)
    )
    print_ = worker.fingerprint_of(run.graph_id, shared)
    waited_ms = claim.now_ms - claim.waits_since_ms if claim.waits_since_ms else 0
    crashed = isinstance(claim, runs.Claim) and run.lost_slice == run.slices > 0
    ledger = worker.ledger(run, steps, shared, print_, waited_ms=waited_ms, after_crash=crashed)
    policies = worker.policies_of(run.graph_id, shared, print_)
    prepared = Prepared(graph, config, policies, session, steps, print_, ledger)
    prepared.degraded = config["configurable"]["degraded"] = list(run.degraded)
    if budget := worker.budgets.of(run.graph_id):
        prepared.meter = Meter(worker, run, budget)
    opening = [prepared.meter.open()] if prepared.meter else []
    is_first = isinstance(claim, runs.Claim) and not claim.has_state and not run.fingerprint and not _goes_on(run)
    begin = _begin if is_first else _take_up
    await asyncio.gather(*begin(worker, run, fence, prepared, shared), *opening)
    return prepared


def _begin(worker: Worker, run: Run, _: Fence, prepared: Prepared, graph: Graph) -> list[Awaitable[Any]]:
    """What to wait for before the first run of a thread: nothing, since there is nothing to read. The graph's version
    is noted with what the run saves first."""
    saver: Any = prepared.graph.checkpointer
    saver.prime(None)
    fields = runs.fields_part(worker.keys, run.run_id, {"fingerprint": prepared.fingerprint})
    prepared.steps.goes_along(fields)
    calls = _shape_calls(worker, run, graph, prepared.fingerprint)
    return [worker.store.do_all(calls)] if calls else []


def _take_up(worker: Worker, run: Run, fence: Fence, prepared: Prepared, graph: Graph) -> list[Awaitable[Any]]:
    """What to wait for before a run goes on from what its thread holds."""

    async def look() -> None:
        calls = [] if run.fingerprint else _first_calls(worker, run, fence, graph, prepared.fingerprint)
        replies = await worker.store.do_all(calls)
        if replies:
            prepared.thread_fingerprint, before = replies[0]
            if before and run.request.input is None:
                await _inherit(worker, run, fence, prepared, before)

    return [_load_latest(prepared, run), look()]


async def _inherit(worker: Worker, run: Run, fence: Fence, prepared: Prepared, before: list[dict[str, Any]]) -> None:
    """A run that goes on with what another one has begun goes without what that one went without."""
    prepared.degraded += before
    owners = (run.run_id, run.thread_id)
    fields = {f"degraded:{part['task_id']}": worker.keys.seal(wire.encode(part), *owners) for part in before}
    await worker.store.do(runs.set_fields(worker.keys, run.run_id, fence, fields))


def _first_calls(worker: Worker, run: Run, fence: Fence, graph: Graph, fingerprint: str) -> list[Call[Any]]:
    """What is read and noted when a run runs for the first time; it rides on the read of its checkpoint.

    A run that goes on with what its thread holds is of the thread's version until that was compared.
    """
    noted = [] if _goes_on(run) else _version_calls(worker, run, fence, graph, fingerprint)
    return [runs.thread_left(worker.keys, run.thread_id), *noted]


def _goes_on(run: Run) -> bool:
    """Whether it starts from what a checkpoint says is next, rather than from an input of its own."""
    return not (given(run) is run.request.input is not None)


def _version_calls(worker: Worker, run: Run, fence: Fence, graph: Graph, fingerprint: str) -> list[Call[Any]]:
    """Note the graph's version with the run, and what this version is like."""
    noted = runs.set_fields(worker.keys, run.run_id, fence, {"fingerprint": fingerprint})
    return [noted, *_shape_calls(worker, run, graph, fingerprint)]


def _shape_calls(worker: Worker, run: Run, graph: Graph, fingerprint: str) -> list[Call[Any]]:
    """Note what this version of the graph is like, once in a process."""
    if fingerprint in worker.shapes_kept:
        return []
    worker.shapes_kept.add(fingerprint)
    return [runs.remember_shape(worker.keys, fingerprint, _shape(worker, run, graph))]


def _shape(worker: Worker, run: Run, graph: Graph) -> seam.Shape:
    return seam.shape(graph, worker.policies.get(run.graph_id))


async def _load_latest(prepared: Prepared, run: Run) -> None:
    """Read where the thread stands, and leave it for LangGraph, which asks for it first thing."""
    configurable = prepared.config["configurable"]
    if configurable.get("checkpoint_id"):
        return
    saver: Any = prepared.graph.checkpointer
    saved = await saver.aget_tuple({"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ""}})
    saver.prime(saved)
    prepared.interrupts, prepared.outputs = seam.interrupts_of(saved), seam.outputs_of(saved)
    prepared.start_id = saved.checkpoint["id"] if saved else ""
    prepared.at_input = saved is not None and run.entered == "checkpoint" and saved.metadata.get("source") == "input"
    if saved is not None and run.entered and run.base_step is not None:
        asked = prepared.config["recursion_limit"]
        left = run.base_step + asked - (saved.metadata["step"] + 1)
        prepared.config["recursion_limit"] = seam.StepsLeft(left, asked=asked)


def begun_in(worker: Worker, prepared: Prepared, run: Run) -> Begun | None:
    """For TaskRunner: whether a subgraph of a task has saved something in the superstep that the slice starts with.

    None for the first slice of a run: there a client's resume is one for the subgraphs, too.
    """
    if run.entered != "checkpoint":
        return None
    place = place_of(worker.keys, run.thread_id, "")

    async def begun(task: PregelExecutableTask) -> bool:
        own = str(task.config["configurable"]["checkpoint_ns"])
        call = Call.command("SMISMEMBER", place.namespaces, own, task.name, parse=list)
        saves_for_this_task, remembers = await worker.store.do(call)
        if saves_for_this_task or not remembers:
            return bool(saves_for_this_task)
        saver: Any = prepared.graph.checkpointer
        latest = await saver.aget_tuple({"configurable": {"thread_id": run.thread_id, "checkpoint_ns": task.name}})
        return latest is not None and latest.metadata.get("parents", {}).get("") == prepared.start_id

    return begun


async def stop_before(worker: Worker, prepared: Prepared, claim: runs.Claim) -> Outcome | None:
    """What keeps a run that is taken up again from going on, if anything does."""
    run = claim.run
    try:
        await check_shape(worker, prepared, run)
    except GraphChanged:
        # A replay is to find the same, and whoever looks for the dead letters of that version this one.
        then = {"fingerprint": run.fingerprint or prepared.thread_fingerprint}
        await worker.store.do(runs.set_fields(worker.keys, run.run_id, claim.fence, then))
        raise
    if run.fingerprint != prepared.fingerprint and (run.fingerprint or _goes_on(run)):
        # What it waits for from here on is this version's: the next change is to be compared with that.
        calls = _version_calls(worker, run, claim.fence, prepared.graph, prepared.fingerprint)
        await worker.store.do_all(calls)
    if claim.came_from == "crash" and run.entered == "checkpoint":
        return await _breakpoint(prepared, run)
    return None


async def check_shape(worker: Worker, prepared: Prepared, run: Run) -> None:
    """Raise GraphChanged when nodes that were next at the checkpoint are not in the graph any more.

    LangGraph would go on with what is left, or return at once with nothing done, and call it success.
    """
    then = run.fingerprint or prepared.thread_fingerprint
    saved = prepared.session.loaded
    if not then or then == prepared.fingerprint or saved is None or not _goes_on(run):
        return
    old = await worker.store.do(runs.shape(worker.keys, then))
    lost = seam.waiting_nodes(old, saved) - prepared.graph.nodes.keys() if old else set()
    if old and lost:
        raise GraphChanged(
            f"Graph {run.graph_id!r} was changed while the run waited, and {', '.join(sorted(lost))} was to run next: "
            f"{seam.difference(old, _shape(worker, run, prepared.graph))}. Nothing was done. Bring the node back, "
            "replay with an edit of the state as another node, or accept the change."
        )


async def _breakpoint(prepared: Prepared, run: Run) -> Interrupted | None:
    """The breakpoint at which the worker that died should have stopped."""
    graph, request = prepared.graph, run.request
    before = request.interrupt_before or graph.interrupt_before_nodes
    after = request.interrupt_after or graph.interrupt_after_nodes
    if not before and not after:
        return None
    saver: Any = graph.checkpointer
    state = await graph.aget_state(prepared.config)
    saved = await saver.aget_tuple(state.config)
    parent = await saver.aget_tuple(saved.parent_config) if saved.parent_config else None
    if seam.stopped_at_breakpoint(saved, parent, state.next, before, after):
        return Interrupted(state.values, {})
    return None


class _Slice:
    """One stretch of ``astream`` under a lease."""

    def __init__(self, worker: Worker, prepared: Prepared, claim: runs.Claim, held: Held) -> None:
        run, came_from, self._now_ms = claim.run, claim.came_from, claim.now_ms
        self._worker, self._prepared, self._run, self._held = worker, prepared, run, held
        self._steps = prepared.steps
        self._came_from = came_from
        self._control, self._nodes_control = RunControl(), RunControl()
        self._foreign: list[PregelExecutableTask] = []
        self._nodes = NodeRunner(
            worker,
            run,
            held.fence,
            prepared.graph,
            prepared.policies,
            prepared.degraded,
            prepared.ledger,
            tell=self._steps.tell,
            now_ms=claim.now_ms,
        )
        self._forgets = seam.forgets(prepared.graph)
        # Asked of every task about each of its siblings, so of most graphs it is better known beforehand.
        self._may_send_away = any(policy.may_leave_home for policy in prepared.policies.values())
        self._one_step = worker.settings.quantum_s == 0 and not self._forgets

    async def run(self, answered: set[str]) -> Outcome:
        self._answered = {task_id: self._prepared.interrupts.get(task_id, ()) for task_id in answered}
        runner = self._runner()
        in_order = self._came_from not in ("", "crash")  # the last slice has told all there was to tell
        repeats = in_order or self._prepared.at_input
        self._feed = Feed(self._run.request, self._steps.tell, repeats=repeats, repeated=runner.restored)
        deadline = self._deadline()
        with DrainedBy(self._worker, self._control, self._nodes_control, quantum_s=self._quantum_s()):
            try:
                outcome = await self._consume(runner)
            finally:
                if deadline is not None:
                    deadline.cancel()
                self._feed.close()
                await runner.close()
                self._prepared.ledger.close()
                if self._prepared.meter is not None:
                    await self._prepared.meter.close()
        if self._nodes.left_running and isinstance(outcome, Cancelled | TimedOut):
            names = ", ".join(sorted(self._nodes.left_running))
            keys, run_id = self._worker.keys, self._run.run_id
            await self._worker.store.do(runs.set_fields(keys, run_id, self._held.fence, {"left_running": names}))
        return outcome

    def _runner(self) -> seam.TaskRunner:
        graph, limit = self._prepared.graph, self._prepared.config.get("max_concurrency")
        return seam.TaskRunner(
            self._admit,
            handled=graph.node_error_handler_map,
            max_concurrency=limit,
            control=self._nodes_control,
            saved=self._prepared.outputs,
            begun=begun_in(self._worker, self._prepared, self._run),
            execute=self._nodes,
            begin=self._nodes.begin if self._nodes.may_be_partial else None,
            left=self._nodes.left,
        )

    def _deadline(self) -> asyncio.TimerHandle | None:
        """What stops the slice when the run's own deadline passes. Should this loop be blocked, recovery does it."""
        if self._run.deadline_at is None:
            return None
        left_s = max(0.0, (self._run.deadline_at - self._now_ms) / 1000)
        return asyncio.get_running_loop().call_later(left_s, self._held.stop, Stop.TIMED_OUT)

    def _quantum_s(self) -> float | None:
        in_one = self._one_step or self._forgets or self._run.request.durability == "exit"
        return None if in_one else self._worker.settings.quantum_s

    async def _consume(self, runner: seam.TaskRunner) -> Outcome:  # noqa: C901, PLR0911 - one outcome each
        prepared = self._prepared
        try:
            async for part in stream(prepared, self._run, given(self._run), runner, self._control):
                self._feed.take(*part)
        except GraphDrained:
            return Advanced()
        except (seam.NotHere, WaitsForRetry, Parks):
            if runner.failures:
                return self._failure(runner.failures[0])
            if self._prepared.meter is not None and self._prepared.meter.edge is not None:
                asked = {**interrupts_of(runner.interrupts), **self._prepared.meter.question()}
                return Interrupted(self._feed.values, asked)
            return await self._left_open(runner)
        except asyncio.CancelledError:
            return stopped(self._held, self._run, self._prepared.session, self._feed.values)
        except NOT_AN_OUTCOME:
            raise
        except Exception as error:  # noqa: BLE001 - a node failed for good: that is the run's outcome, never the worker's end
            raise_if_no_outcome(runner.failures)
            return self._failure((runner.failures or [error])[0])
        if self._feed.interrupted or runner.interrupts:
            return Interrupted(self._feed.values, interrupts_of(runner.interrupts))
        return Finished(self._feed.values)

    async def _left_open(self, runner: seam.TaskRunner) -> Outcome:
        """Some tasks are for other workers, wait for a time, or wait for siblings that ask a person."""
        if self._foreign:
            branches = await self._branches()
            return Dispatched(branches, self._nodes.cut_at_ms({branch.fanout for branch in branches}))
        if (waiting := self._nodes.waits_until()) is not None:
            return waiting
        return Interrupted(self._feed.values, interrupts_of(runner.interrupts))

    def _failure(self, error: BaseException) -> Failed:
        return failure(error, self._feed.values, self._nodes.failed)

    def _admit(self, task: PregelExecutableTask, siblings: list[PregelExecutableTask]) -> None:
        if self._one_step and task.name != seam.START:
            self._control.request_drain("one superstep")
        if task.id in self._answered:
            raise GraphInterrupt(self._answered[task.id])
        self._nodes.wait_if_early(task)
        if self._prepared.meter is not None and task.name != seam.START:
            self._prepared.meter.begin(seam.step_of(task))
        if self._may_send_away and any(self._is_foreign(other) for other in siblings):
            if not self._nodes.is_settled(task):
                self._foreign.append(task)
            raise seam.NotHere(task.id)

    def _queue_of(self, task: PregelExecutableTask) -> str:
        policy = self._prepared.policies.get(task.name)
        if policy is None:
            return self._run.queue
        isolated = policy.isolate or (policy.deadline_s is not None and seam.is_sync(task))
        return policy.queue or (self._worker.settings.isolated_queue if isolated else self._run.queue)

    def _is_foreign(self, task: PregelExecutableTask) -> bool:
        if task.id in self._answered or self._queue_of(task) == self._run.queue:
            return False
        return not (self._nodes.is_waiting(task) or self._nodes.is_settled(task))

    async def _parts(self, queue: str, tasks: int) -> int:
        """Into how many parts to cut: what may be killed is killed alone. Each part has LangGraph prepare the whole
        superstep, so there are some for each worker, for who is quick to take more, and not one for each task."""
        if queue == self._worker.settings.isolated_queue:
            return tasks
        if queue == self._run.queue:
            return 1
        hands = await self._worker.hands.of(queue)
        most = self._worker.settings.max_branches
        return min(tasks, most, PARTS_EACH * hands) if hands else min(tasks, most)

    async def _branches(self) -> tuple[Branch, ...]:
        """The superstep cut into parts: one for all nodes at home on the run's queue, the others spread."""
        alike: dict[tuple[str, str], list[PregelExecutableTask]] = defaultdict(list)
        for task in self._foreign:
            alike[self._queue_of(task), self._nodes.cut_key(task)].append(task)
        parts = [
            (queue, fanout, tasks[start::count])
            for (queue, fanout), tasks in alike.items()
            for count in [await self._parts(queue, len(tasks))]
            for start in range(count)
        ]
        return tuple(
            Branch(
                f"b{number}",
                queue,
                tuple(task.id for task in part),
                tuple(dict.fromkeys(task.name for task in part)),
                fanout,
            )
            for number, (queue, fanout, part) in enumerate(parts)
        )


def stopped(held: Held, run: Run, session: SliceSession | None = None, values: Any = None) -> Outcome:
    """What a slice that was stopped from outside came to. Raises LeaseLost when that is why."""
    match held.stopped:
        case Stop.CANCELLED:
            known = run.entered != "" or bool(session and session.head.get(""))
            return Cancelled(run.cancel or "interrupt", resumable=known, values=values)
        case Stop.TIMED_OUT:
            return TimedOut(values)
        case Stop.SHUTDOWN:
            return Advanced()
    raise LeaseLost


def stream(
    prepared: Prepared, run: Run, given_: Any, runner: seam.TaskRunner, control: RunControl
) -> AsyncIterator[tuple[tuple[str, ...], str, Any]]:
    """LangGraph's stream of a run, as (namespace, mode, data)."""
    request = run.request
    blocks = PROTOCOL in request.stream_mode
    may_stop = seam.may_stop(prepared.graph, request.interrupt_before, request.interrupt_after)
    configurable = {**prepared.config["configurable"], seam.RUNNER_SUBMIT: runner, seam.CONTENT_BLOCKS: blocks}
    callbacks: list[Any] = [prepared.meter] if prepared.meter else []  # first: what it refuses is not begun
    callbacks += [Callbacks(prepared.ledger)] if prepared.ledger.is_on else []
    as_events = "events" in request.stream_mode
    named = {"run_id": UUID(run.run_id)} if as_events else {}  # clients look for the root by the run's id
    begin: Any = partial(prepared.graph.astream_events, version="v2") if as_events else prepared.graph.astream
    parts: AsyncIterator[Any] = begin(
        given_,
        {**prepared.config, **named, "configurable": configurable, "callbacks": callbacks},
        context=request.context,
        stream_mode=modes_of(request, may_stop=may_stop),
        interrupt_before=request.interrupt_before,
        interrupt_after=request.interrupt_after,
        durability="exit" if request.durability == "exit" else "sync",
        control=control,
        subgraphs=request.stream_subgraphs,
        **({"version": "v2"} if blocks else {}),
    )
    if as_events:
        parts = seam.with_events(parts, nested=request.stream_subgraphs)
    return _with_namespace(parts, nested=request.stream_subgraphs)


async def _with_namespace(
    parts: AsyncIterator[Any], *, nested: bool
) -> AsyncIterator[tuple[tuple[str, ...], str, Any]]:
    async for part in parts:
        if isinstance(part, dict):
            yield part["ns"], part["type"], part["data"]
        else:
            yield part if nested else ((), *part)


class DrainedBy:
    """Let the worker's end, and the end of the quantum, stop the slice at a superstep edge, as long as the block lasts.

    Nodes and their subgraphs are told of the worker's end only: the quantum is nothing to them.
    """

    __slots__ = ("_controls", "_timer", "_worker")

    def __init__(
        self, worker: Worker, control: RunControl, nodes_control: RunControl, *, quantum_s: float | None
    ) -> None:
        self._worker, self._controls = worker, (control, nodes_control)
        self._timer: asyncio.TimerHandle | None = None
        if quantum_s:
            self._timer = asyncio.get_running_loop().call_later(quantum_s, control.request_drain, "quantum")

    def __enter__(self) -> None:
        self._worker.controls.update(self._controls)
        if self._worker.draining:
            for control in self._controls:
                control.request_drain("shutdown")

    def __exit__(self, *_: object) -> None:
        self._worker.controls.difference_update(self._controls)
        if self._timer is not None:
            self._timer.cancel()


class Stoppable:
    """Let a lost lease, a cancelled run or the process's end cancel what the block does.

    Once the block has ended the cancellation is used up: what follows (committing) must not be cut off by it.
    """

    __slots__ = ("_held",)

    def __init__(self, held: Held) -> None:
        self._held = held

    def __enter__(self) -> None:
        self._held.task = asyncio.current_task()
        if self._held.stopped is not None:  # before there was anything to cancel
            self._held.cancel()

    def __exit__(self, *_: object) -> None:
        task, self._held.task = self._held.task, None
        while task is not None and task.uncancel() > 0:
            pass


def given(run: Run) -> Any:
    """What LangGraph is given: the request at first, nothing once it is in the state.

    A resume by interrupt id is never stored by LangGraph, so it is given again until the first checkpoint.
    """
    if run.entered == "checkpoint":
        return None
    command = run.request.command
    if run.entered == "writes":
        return answers(run)
    return _command(command) if command else run.request.input


def answers(run: Run) -> Any:
    """What a superstep that was begun by this run must be given again: answers by interrupt id, else nothing."""
    resume = (run.request.command or {}).get("resume") if run.entered != "checkpoint" else None
    return Command(resume=resume) if isinstance(resume, dict) and resume else None


def _command(command: dict[str, Any]) -> Command[Any]:
    goto = command.get("goto") or ()
    sends = [goto] if isinstance(goto, (str, dict)) else goto
    return Command(
        resume=command.get("resume"),
        update=command.get("update"),
        goto=[Send(item["node"], item.get("input")) if isinstance(item, dict) else item for item in sends],
    )


#: What the server says of who asked for a run. A client that says it too is not believed.
_OF_USER = frozenset({"langgraph_auth_user", "langgraph_auth_user_id", "langgraph_auth_permissions"})


def _who(run: Run) -> dict[str, Any]:
    if run.user is None:
        return {}
    name, permissions = run.user.get("identity"), run.user.get("permissions", [])
    return {
        "langgraph_auth_user": dict(run.user),
        "langgraph_auth_user_id": name,
        "langgraph_auth_permissions": permissions,
        "user_id": name,
    }


def config_of(run: Run, recursion_limit: int) -> RunnableConfig:
    """The RunnableConfig of a run: the client's, with the ids that nodes and checkpoints are to know."""
    request = run.request
    ids = {"run_id": run.run_id, "thread_id": run.thread_id, "assistant_id": run.assistant_id, "graph_id": run.graph_id}
    given = {key: value for key, value in request.config.get("configurable", {}).items() if key not in _OF_USER}
    configurable = {**given, **_who(run), **ids}
    if request.checkpoint and run.entered != "checkpoint":
        wanted = {key: value for key, value in request.checkpoint.items() if key != "thread_id" and value is not None}
        configurable = {**configurable, **wanted}
    else:
        configurable.pop("checkpoint_id", None)
    config = RunnableConfig(
        run_name=request.config.get("run_name") or run.graph_id,
        tags=request.config.get("tags", []),
        metadata={**request.config.get("metadata", {}), **run.metadata, **ids},
        recursion_limit=request.config.get("recursion_limit") or recursion_limit,
        configurable=configurable,
    )
    if limit := request.config.get("max_concurrency"):
        config["max_concurrency"] = limit
    return config


def quarantined(run: Run) -> dict[str, Any]:
    return {
        "error": "Quarantined",
        "message": f"{run.crashes} workers, one after the other, died or lost touch while they had this run in hand, "
        "and it came no further. It is not tried again by itself: look at what its next node does to its process, then "
        "replay or discard it.",
    }


def interrupts_of(raised: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {task_id: [{"id": i.id, "value": i.value} for i in interrupts] for task_id, interrupts in raised.items()}


def raise_if_no_outcome(failures: Iterable[Exception]) -> None:
    """Raise what is not the graph's doing, if a task met it: LangGraph raises any one of what a superstep raised."""
    for error in failures:
        if isinstance(error, NOT_AN_OUTCOME):
            raise error


def failure(error: BaseException, values: Any = None, failed: Sequence[tuple[str, str, int]] = ()) -> Failed:
    """An exception as an outcome, with the node and the traceback for people who repair it."""
    told: dict[str, Any] = wire.error_of(error)
    if not isinstance(error, EngineError):
        told["traceback"] = redact.text("".join(traceback.format_exception(error))[-20_000:], 20_000)
    if failed:
        told["task_id"], told["node"], told["attempt"] = failed[0]
    return Failed(told, values, error)


def branch_results(branches: dict[str, str]) -> list[dict[str, Any]]:
    """What the ended branches of the run's superstep left: errors and interrupts."""
    return [wire.decode(value) for name, value in branches.items() if name.endswith(":result") and value]
