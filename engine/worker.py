"""What a worker process has: made once after it has forked, handed to everything that works in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import PregelExecutableTask

from runyard.engine import seam
from runyard.engine.background import Background
from runyard.engine.breaker import Circuit
from runyard.engine.budget import Budgets
from runyard.engine.caps import Caps
from runyard.engine.circuits import Circuits
from runyard.engine.deadlines import Deadlines, TimeLimit
from runyard.engine.hands import Hands
from runyard.engine.items import RedisItems
from runyard.engine.leases import Held, LeaseKeeper, Stop
from runyard.engine.ledger import Ledger, ModelCall, Sink
from runyard.engine.limits import Limit
from runyard.engine.notices import Notify
from runyard.engine.pace import Pace
from runyard.engine.policy import NodePolicy, policies_of
from runyard.engine.prices import Prices
from runyard.engine.recent import Recent
from runyard.engine.run import Run, Wake
from runyard.engine.saver import RedisSaver
from runyard.engine.settings import Settings
from runyard.engine.shares import Shares
from runyard.engine.steps import Steps
from runyard.engine.store.client import AsyncStore, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.waiting import Waiting
from runyard.engine.webhooks import Verdict, Webhooks

log = structlog.get_logger(__name__)

Graph = Pregel[Any, Any, Any, Any]
_NOTHING: AbstractContextManager[None] = nullcontext()
_TELLS_NOBODY: AbstractContextManager[Callable[[Any], None]] = nullcontext(lambda _: None)
#: Told of a run that has just become a dead letter: how it ended, and the exception where it was raised here.
OnDeath = Callable[[Run, Mapping[str, Any], BaseException | None], None]
#: Given by whoever wires the process: the compiled graph of an id for a run's config, for as long as the block lasts.
#: May raise anything.
OpenGraph = Callable[[str, RunnableConfig], AbstractAsyncContextManager[Graph]]


@dataclass(eq=False, slots=True, kw_only=True)
class Worker:
    settings: Settings
    keys: Keys
    worker_id: str
    store: AsyncStore
    #: For nodes that are plain functions, in their threads.
    sync_store: SyncStore
    saver: RedisSaver
    #: As ``saver``, for branches: it never closes a superstep.
    branch_saver: RedisSaver
    keeper: LeaseKeeper
    open_graph: OpenGraph
    #: LangGraph's long-term store, for graphs that were compiled without one of their own.
    items: RedisItems
    #: Sends them, as the settings and the project say.
    webhooks: Webhooks = field(default_factory=Webhooks)
    #: Told (queue, ms the wake-up was sent, ms now) of every wake-up that was claimed.
    took: Callable[[str, int, int], None] = lambda *_: None
    #: graph id -> node -> what configuration says about it
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: What model calls cost.
    prices: Prices = field(default_factory=Prices)
    #: Told of every model call as it ends, in whatever thread that is.
    on_model_call: tuple[Callable[[ModelCall], None], ...] = ()
    #: Told of every run that this worker has ended as a dead letter; recovery has its own.
    on_death: tuple[OnDeath, ...] = ()
    #: Told of every record of the ledger.
    sinks: tuple[Sink, ...] = ()
    #: The limits that nodes share with the fleet, by name.
    limits: Mapping[str, Limit] = field(default_factory=dict)
    #: How many runs of a tenant or a graph may be in hand at once, over the fleet.
    caps: Caps = field(default_factory=Caps)
    #: What runs, threads and tenants may spend.
    budgets: Budgets = field(default_factory=Budgets)
    #: Who is told what, when nobody looks.
    notify: Notify = field(default_factory=Notify)
    #: What is answered when nobody answers.
    waiting: Waiting = field(default_factory=Waiting)
    #: The thresholds of circuits that configuration defines, by name.
    thresholds: Mapping[str, Circuit] = field(default_factory=dict)
    #: Sends wake-ups of parked runs that there is room for; called in a thread, may fail.
    wake: Callable[[Sequence[Wake]], None] = lambda _: None
    #: What this process holds of the limits.
    shares: Shares = field(init=False)
    #: The circuits that it calls through.
    circuits: Circuits = field(init=False)
    #: How many workers there are for its branches.
    hands: Hands = field(init=False)
    background: Background = field(default_factory=Background)
    #: Stop what is in hand when its run's time is over, and attempts of nodes when theirs is.
    runs_end: Deadlines[Held] = field(default_factory=lambda: Deadlines(lambda held: held.stop(Stop.TIMED_OUT)))
    attempts_end: Deadlines[TimeLimit] = field(default_factory=lambda: Deadlines(TimeLimit.passed))
    #: How many wake-ups it acts on.
    pace: Pace = field(default_factory=Pace)
    #: Set when the process was asked to stop: nothing new is claimed, slices end at their next superstep edge.
    draining: bool = False
    #: Whether this process may take another run: it may have used too much memory.
    has_room: Callable[[], bool] = lambda: True
    #: Whether this process has one thing in hand at a time and may be killed for it (a prefork child).
    expendable: bool = False
    #: In such a process: kills it so many seconds after the block was entered, should the block not have ended.
    killed_after: Callable[[float], AbstractContextManager[None]] = lambda _: _NOTHING
    #: Entered around every attempt of a node, once it has been counted: a crash test dies here.
    attempting: Callable[[PregelExecutableTask], AbstractContextManager[None]] = lambda _: _NOTHING
    #: Entered around every slice and branch ("" for a slice): gives what is told of its outcome once that is saved.
    slicing: Callable[[Run, str], AbstractContextManager[Callable[[Any], None]]] = lambda *_: _TELLS_NOBODY
    #: Entered around every attempt to deliver a webhook: gives the trace context for its receiver, "" for none, and
    #: what is told how it went.
    delivering: Callable[[Run, int], AbstractContextManager[tuple[str, Callable[[Verdict], None]]]] = lambda run, _: (
        nullcontext((run.trace, lambda _: None))
    )
    #: What a slice saves waits at least so long for the rest of its superstep: a crash test counts on it.
    hold_s: float = 0.0
    #: What it keeps of the threads that it had in hand last.
    recent: Recent = field(default_factory=lambda: Recent(0))
    #: Called once too many plain functions were left behind in threads: the process should end and be started anew.
    retire: Callable[[], None] = lambda: None
    abandoned: int = 0
    #: Fingerprints of graphs whose shape this process has stored.
    shapes_kept: set[str] = field(default_factory=set)
    controls: set[RunControl] = field(default_factory=set)
    _routes: dict[tuple[str, str], dict[str, seam.Routes]] = field(default_factory=dict)
    _policies: dict[tuple[str, str], dict[str, NodePolicy]] = field(default_factory=dict)
    _fingerprints: WeakKeyDictionary[Graph, tuple[Any, str]] = field(default_factory=WeakKeyDictionary)

    def __post_init__(self) -> None:
        self.shares = Shares(self.store, self.keys, self.background, lease_ms=self.settings.lease_ms, wake=self.wake)
        self.circuits = Circuits(self.store, self.keys, self.background, self.wake)
        self.hands = Hands(self.store, self.keys)
        if self.limits or self.caps:
            self.keeper.add(self.keys.shares, self.shares.told, self.shares.renewals)
        self.keeper.add(self.keys.circuits_changed, self.circuits.changed)

    def drain(self) -> None:
        """Ask every slice to end at its next superstep edge. Called on the event loop."""
        self.draining = True
        self.pace.open()
        for control in self.controls:
            control.request_drain("shutdown")

    async def close(self) -> None:
        """Give back what is left in hand, and leave the store. Raises StoreUnavailable."""
        await self.background.close()
        await self.store.close()

    def abandon(self, node: str) -> None:
        """A plain function outlived its deadline and goes on in its thread, which nothing can stop."""
        self.abandoned += 1
        log.warning("node.abandoned", node=node, abandoned=self.abandoned)
        if self.abandoned == (1 if self.expendable else self.settings.max_abandoned):
            self.retire()

    def steps(self, run: Run, fence: Fence) -> Steps:
        """What saves what a run comes to, under one lease."""
        settings = self.settings
        keep = settings.max_records if settings.ledger == "on" else 0
        return Steps(
            self.store, self.keys, run.run_id, run.thread_id, fence,
            keep_events=settings.max_events, keep_records=keep, goes_on=run.slices > 0, hold_s=self.hold_s,
            saved=self.pace.saved,
        )  # fmt: skip

    def ledger(
        self, run: Run, steps: Steps, graph: Graph, fingerprint: str, *, waited_ms: float, after_crash: bool = False
    ) -> Ledger:
        """What notes what happens under one lease."""
        routes = self._routes.get((run.graph_id, fingerprint))
        if routes is None:
            routes = self._routes[run.graph_id, fingerprint] = seam.routes(graph)
        made = Ledger(
            run, steps, worker_id=self.worker_id, prices=self.prices, routes=routes, sinks=self.sinks,
            waited_ms=waited_ms, after_crash=after_crash,
        )  # fmt: skip
        made.on_model_call.extend(self.on_model_call)
        return made

    def fingerprint_of(self, graph_id: str, graph: Graph) -> str:
        """The fingerprint of a loaded graph under its configured policies; of one that is loaded once, made once."""
        policies, known = self.policies.get(graph_id), self._fingerprints.get(graph)
        if known is None or known[0] != policies:
            known = self._fingerprints[graph] = policies, seam.fingerprint(graph, policies)
        return known[1]

    def policies_of(self, graph_id: str, graph: Graph, fingerprint: str) -> dict[str, NodePolicy]:
        """The policies of a graph's nodes, validated once. Raises ConfigError."""
        known = self._policies.get((graph_id, fingerprint))
        if known is None:
            known = policies_of(
                graph_id,
                seam.node_metadata(graph),
                self.policies.get(graph_id),
                limits=self.limits,
                circuits=self.thresholds,
            )
            self._policies[graph_id, fingerprint] = known
        return known
