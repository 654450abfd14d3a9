"""From a claim to a graph that is bound to it: loaded, compared with what the run began on, and where its thread
stands. What keeps it from going on is found here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.types import PregelExecutableTask

from runyard.engine import seam, wire
from runyard.engine.errors import GraphChanged, GraphUnavailable
from runyard.engine.given import config_of, given
from runyard.engine.ledger import Ledger
from runyard.engine.meter import Meter
from runyard.engine.policy import NodePolicy
from runyard.engine.run import Interrupted, Outcome, Run
from runyard.engine.saver import RedisSaver, SliceSession
from runyard.engine.steps import Steps
from runyard.engine.store import runs
from runyard.engine.store.checkpoint_calls import place_of
from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.worker import Graph, Worker

Begun = Callable[[PregelExecutableTask], Awaitable[bool]]


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
    #: Whether this checkpoint is the run's own and LangGraph told no values with it: those of before were told then.
    told_nothing: bool = False


class Opened:
    """A graph that stays open as long as the block lasts, once it is."""

    __slots__ = ("_manager",)

    def __init__(self) -> None:
        self._manager: AbstractAsyncContextManager[Graph] | None = None

    async def graph(self, manager: AbstractAsyncContextManager[Graph]) -> Graph:
        found = await manager.__aenter__()
        self._manager = manager
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, trace) if self._manager is not None else None


async def prepare(
    worker: Worker,
    claim: runs.Claim | runs.BranchClaim,
    opened: Opened,
    steps: Steps,
    saver: RedisSaver | None = None,
) -> Prepared:
    """Load the graph, which stays ``opened``, and the thread's latest checkpoint, in one round trip; in none for the
    first run of a thread."""
    run, fence = claim.run, claim.fence
    config = config_of(run, worker.settings.recursion_limit)
    try:
        shared = await opened.graph(worker.open_graph(run.graph_id, config))
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
    if saved is not None and run.entered == "checkpoint":
        source = saved.metadata.get("source", "")
        prepared.told_nothing = not seam.tells_values(prepared.graph, saved.checkpoint, source)
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
