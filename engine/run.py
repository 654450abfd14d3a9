"""The vocabulary of runs: phases, the verbs that move them, and what clients see.

A *phase* is where a run stands in Runyard; a *status* is LangGraph's word for it, the only one clients are shown.
:data:`TRANSITIONS` is the one table of what may follow what; every subset of phases is derived here and spelled
nowhere else. The Lua scripts are told the phases they accept from this table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

RunStatus = Literal["pending", "running", "success", "error", "timeout", "interrupted"]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
CancelAction = Literal["interrupt", "rollback"]
MultitaskStrategy = Literal["reject", "enqueue", "interrupt", "rollback"]
DeliveryState = Literal["pending", "delivered", "failed"]


class Phase(StrEnum):
    #: Behind another run of its thread. The end of that run moves it on.
    QUEUED = "queued"
    #: Waits for its time: a delayed start, or the next attempt of a node. Recovery moves it on when the time has come.
    DUE = "due"
    #: Waits for room without a worker: a limit that is used up, an open circuit, a budget. Whoever gives room back, or
    #: recovery when the time has come, moves it on.
    PARKED = "parked"
    #: A wake-up was sent. The worker that claims it moves it on; recovery sends the wake-up again if it was lost.
    WAITING = "waiting"
    #: A worker holds the lease and takes it forward. The worker moves it on, or recovery when the lease has expired.
    LEASED = "leased"
    #: As leased, and a client asked for its end. The worker that holds the lease ends it.
    CANCELLING = "cancelling"
    #: The nodes of its superstep run on other workers. The last one to finish moves it on.
    DISPATCHED = "dispatched"
    #: Final: the graph ran to its end.
    SUCCEEDED = "succeeded"
    #: Final for this run: the graph waits for a person or at a breakpoint; a new run on the thread resumes it.
    PAUSED = "paused"
    #: Final: a node failed for good, or the graph could not be run. A dead letter, which an operator can revive.
    FAILED = "failed"
    #: Final: the run took longer than it was allowed to. A dead letter, as above.
    TIMED_OUT = "timed_out"
    #: Final: a client, or a newer run of the thread, asked for its end.
    CANCELLED = "cancelled"


class Verb(StrEnum):
    ADMIT = "admit"
    PROMOTE = "promote"
    CLAIM = "claim"
    YIELD = "yield"
    RECLAIM = "reclaim"
    DISPATCH = "dispatch"
    DELAY = "delay"
    PARK = "park"
    GATHER = "gather"
    REQUEST_CANCEL = "request_cancel"
    COMPLETE = "complete"
    PAUSE = "pause"
    FAIL = "fail"
    EXPIRE = "expire"
    CANCEL = "cancel"
    REVIVE = "revive"


_P = Phase
#: verb -> (the phases it may be applied to, the phase that follows)
TRANSITIONS: dict[Verb, tuple[frozenset[Phase], Phase]] = {
    Verb.ADMIT: (frozenset({_P.QUEUED}), _P.WAITING),
    Verb.PROMOTE: (frozenset({_P.DUE, _P.PARKED}), _P.WAITING),
    Verb.CLAIM: (frozenset({_P.WAITING}), _P.LEASED),
    Verb.YIELD: (frozenset({_P.LEASED}), _P.WAITING),
    Verb.RECLAIM: (frozenset({_P.LEASED, _P.CANCELLING}), _P.WAITING),
    Verb.DISPATCH: (frozenset({_P.LEASED}), _P.DISPATCHED),
    Verb.DELAY: (frozenset({_P.LEASED}), _P.DUE),
    Verb.PARK: (frozenset({_P.LEASED}), _P.PARKED),
    Verb.GATHER: (frozenset({_P.DISPATCHED}), _P.WAITING),
    Verb.REQUEST_CANCEL: (frozenset({_P.LEASED}), _P.CANCELLING),
    Verb.COMPLETE: (frozenset({_P.LEASED, _P.CANCELLING}), _P.SUCCEEDED),
    Verb.PAUSE: (frozenset({_P.LEASED, _P.CANCELLING}), _P.PAUSED),
    Verb.FAIL: (frozenset({_P.LEASED, _P.CANCELLING}), _P.FAILED),
    Verb.EXPIRE: (
        frozenset({_P.LEASED, _P.CANCELLING, _P.WAITING, _P.DUE, _P.PARKED, _P.DISPATCHED}),
        _P.TIMED_OUT,
    ),
    Verb.CANCEL: (
        frozenset({_P.QUEUED, _P.DUE, _P.PARKED, _P.WAITING, _P.DISPATCHED, _P.LEASED, _P.CANCELLING}),
        _P.CANCELLED,
    ),
    Verb.REVIVE: (frozenset({_P.FAILED, _P.TIMED_OUT}), _P.WAITING),
}

#: Dead letters: over, unless an operator revives them.
REVIVABLE: frozenset[Phase] = TRANSITIONS[Verb.REVIVE][0]
#: Nothing but an operator's hand leads out of these.
TERMINAL: frozenset[Phase] = frozenset(Phase) - frozenset().union(
    *(sources for verb, (sources, _) in TRANSITIONS.items() if verb is not Verb.REVIVE)
)
#: Everything else: the run still has something to do.
ACTIVE: frozenset[Phase] = frozenset(Phase) - TERMINAL
#: A worker holds the run's lease exactly in these.
LEASED: frozenset[Phase] = TRANSITIONS[Verb.RECLAIM][0]

_FINAL_STATUS: dict[Phase, RunStatus] = {
    _P.SUCCEEDED: "success",
    _P.PAUSED: "success",  # LangGraph: the run did its part; it is the thread that is interrupted
    _P.FAILED: "error",
    _P.TIMED_OUT: "timeout",
    _P.CANCELLED: "interrupted",
}

#: What a thread is left as when a run of it ends in a phase; a cancelled run knows better and says so itself.
THREAD_AFTER: dict[Phase, ThreadStatus] = {
    _P.SUCCEEDED: "idle",
    _P.PAUSED: "interrupted",
    _P.FAILED: "error",
    _P.TIMED_OUT: "error",
    _P.CANCELLED: "idle",
}


def status_of(phase: Phase, *, started: bool) -> RunStatus:
    """LangGraph's word for a phase. ``started``: whether a worker has ever taken the run."""
    if phase in _FINAL_STATUS:
        return _FINAL_STATUS[phase]
    return "running" if started else "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a client asks for: the fields of LangGraph's RunCreate that the engine acts on, already validated."""

    input: Any = None
    command: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    interrupt_before: list[str] | Literal["*"] | None = None
    interrupt_after: list[str] | Literal["*"] | None = None
    stream_mode: list[str] = field(default_factory=lambda: ["values"])
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    durability: str = "async"
    webhook: str | None = None
    #: Seconds from the first slice to the end; None: as long as the server allows.
    timeout_s: float | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """All of it by name, to be written: nothing is copied."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a run's webhook got. ``at``: when it is tried again, or was settled; ``status``: the last answer."""

    state: DeliveryState
    attempts: int
    at: int
    status: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the store holds it. Instants are milliseconds since the epoch on the store's clock."""

    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    phase: Phase
    queue: str
    strategy: MultitaskStrategy
    created_at: int
    updated_at: int
    request: RunRequest
    metadata: dict[str, Any]
    #: Whether the thread was made for this run alone and goes when the run ends.
    temporary: bool = False
    started_at: int | None = None
    ended_at: int | None = None
    due_at: int | None = None
    #: Last sign that the graph moved: a saved write, a checkpoint.
    progress_at: int | None = None
    #: The fence: grows with every claim of the run or of one of its branches.
    token: int = 0
    owner: str | None = None
    cancel: CancelAction | None = None
    error: dict[str, Any] | None = None
    #: How far the request got into the state: "" not at all, "writes" its command's writes, "checkpoint" a superstep.
    entered: Literal["", "writes", "checkpoint"] = ""
    #: Step number of the run's first checkpoint, from which its recursion limit counts.
    base_step: int | None = None
    #: The fingerprint of the graph that it last went on with.
    fingerprint: str = ""
    slices: int = 0
    #: The last slice whose worker died or lost touch, when it began, and who that was; 0: none.
    lost_slice: int = 0
    lost_from: int = 0
    lost_worker: str = ""
    #: How many workers died, or lost their lease, with this run in hand.
    crashes: int = 0
    #: Attempts of each task that failed so far, of the tasks that have not succeeded since.
    attempts: dict[str, int] = field(default_factory=dict)
    #: When the next attempt of a task is due, of those that have to wait.
    again: dict[str, int] = field(default_factory=dict)
    #: Tasks that are parked because their attempts were used up, or were: the last attempt of the round before.
    rounds: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Tasks of a fan-out that failed for good, before it is known whether they may be missing: their last attempts.
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: When the rest of a fan-out is cut off, of those that have reached their quorum.
    cuts: dict[str, int] = field(default_factory=dict)
    #: What the run had to do without: one entry for each task that was given up on or replaced.
    degraded: list[dict[str, Any]] = field(default_factory=list)
    #: What an operator said a node is to be taken to have returned, by node: ``{"value": …}``, ``{"goto": …}``.
    supplied: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: When it must have ended, from its first slice on.
    deadline_at: int | None = None
    #: How often it was revived from the dead letters.
    replays: int = 0
    #: What it has spent and what was granted to it, by kind; only with a budget.
    spent: dict[str, float] = field(default_factory=dict)
    granted: dict[str, float] = field(default_factory=dict)
    #: Of the runs of its tenant that wait for a worker, those with a higher one go first.
    priority: int = 0
    #: What it waited for when it last parked: one entry for each node, see :class:`Parked`.
    parked: list[dict[str, Any]] = field(default_factory=list)
    #: The same of its branches that are parked.
    parked_branches: list[dict[str, Any]] = field(default_factory=list)
    #: Why an operator took it off the dead letters, if one did.
    discarded: str | None = None
    #: Plain functions that were still running in their threads when it was cancelled or its time was up, by node.
    left_running: str = ""
    #: Whose it is; empty: the default tenant's.
    tenant: str = ""
    #: Who asked for it, as nodes find it in ``langgraph_auth_user``; None when nobody was asked who they are.
    user: dict[str, Any] | None = None
    #: The W3C ``traceparent`` of the request that made it, if that was traced.
    trace: str = ""
    #: Set once the run has ended and its webhook is to be told.
    delivery: Delivery | None = None

    @property
    def status(self) -> RunStatus:
        return status_of(self.phase, started=self.started_at is not None)

    @property
    def waits_for(self) -> list[dict[str, Any]]:
        """What its nodes wait for now, where they wait for room."""
        here = self.parked if self.phase is Phase.PARKED else []
        return here + (self.parked_branches if self.phase is Phase.DISPATCHED else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """A wake-up to send. Losing or repeating one is harmless: the claim decides, and recovery finds what was lost."""

    run_id: str
    queue: str
    #: Set when it is for one branch of a dispatched superstep.
    branch: str | None = None
    graph_id: str = ""
    #: What Flower shows, e.g. ``research.search``.
    label: str = ""
    #: Set when it is for the delivery of the run's webhook.
    webhook: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """Tasks of one superstep that one worker runs under one lease of its own."""

    name: str
    queue: str
    task_ids: tuple[str, ...]
    nodes: tuple[str, ...]
    #: The fan-out that all its tasks are of, when that can be cut off.
    fanout: str = ""


# What a slice came to. `tasks/` never looks inside; `slice.commit` turns each into one script and its wake-ups.


@dataclass(frozen=True, slots=True)
class Finished:
    values: Any


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The graph waits: ``interrupts`` maps task ids to what they ask; empty at a breakpoint."""

    values: Any
    interrupts: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Advanced:
    """The slice is used up at a superstep edge; there is more to do."""


@dataclass(frozen=True, slots=True)
class Dispatched:
    branches: tuple[Branch, ...]
    #: When some of them are to be cut off, where that is known already.
    cut_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetryLater:
    """A node is to be tried again after a wait that is too long to sit out. ``nodes``: which, and the next attempt of
    each, as far as this slice knows."""

    wait_s: float
    nodes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Parked:
    """Nodes wait for room: at most so long, and for what; no attempt of theirs.

    Each entry of ``parked`` has ``task_id``, ``node``, ``why`` (limit, circuit, budget, or exhausted attempts),
    ``name`` of what has no room (or the error), and ``since`` in ms.
    """

    wait_s: float
    parked: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The run's own deadline has passed."""

    values: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """``error`` is ``{"error": type name, "message": text}``, plus ``node``, ``attempt`` and ``traceback`` where they
    are known."""

    error: dict[str, Any]
    values: Any = None
    #: The exception itself, where it was raised in this process.
    cause: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Cancelled:
    action: CancelAction
    #: Whether the graph has nodes left to run, so that the thread can be resumed.
    resumable: bool = False
    values: Any = None


Outcome = Finished | Interrupted | Advanced | Dispatched | RetryLater | Parked | TimedOut | Failed | Cancelled
