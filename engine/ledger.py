"""The ledger: one record for each attempt of a node, each call of a tool or a model, each choice of a way.

Append-only and in the order of what ended first. Records are written by the same batch that saves what they are about,
before it: what is saved has its records, and a crash may add a second record of what ran twice. Nobody's code is
touched: attempts come from :mod:`node`, the rest from LangChain's callbacks (:mod:`callbacks`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from langgraph.errors import GraphBubbleUp, GraphInterrupt, NodeTimeoutError, ParentCommand
from langgraph.types import PregelExecutableTask

from runyard.engine import redact, seam
from runyard.engine.prices import Prices
from runyard.engine.record import About, Json, Kind, Status, Tokens
from runyard.engine.run import Run
from runyard.engine.steps import Steps

#: A record of something long, say a tool in a node of minutes, is written after so many seconds at the latest.
PATIENCE_S = 1.0


#: What a node fails with that took too long, by whoever's clock.
_TIMEOUTS = ("TimeoutError", "NodeTimeoutError")


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A model's call that has just ended: what budgets are counted by. ``cost`` is None for a model without a price."""

    model: str
    tokens_in: int
    tokens_out: int
    cost: float | None
    #: The root task whose node made it, and its node; "" outside of any.
    task_id: str
    node: str


#: Told of every record: whose it is, its fields, and the same as JSON. Called in any thread.
Sink = Callable[[About, Json, bytes], None]


@dataclass(slots=True)
class _Task:
    """An attempt of a root task that is under way."""

    node: str
    step: int | None
    attempt: int
    tokens: Tokens | None = None


class Ledger:
    """Notes what happens under one lease. ``add`` may be called from any thread, everything else on the event loop."""

    __slots__ = (
        "_about", "_after_crash", "_first_step", "_loop", "_prices", "_routes", "_run", "_sinks", "_slice", "_steps",
        "_tasks", "_timer", "_waited_ms", "_worker_id", "is_on", "on_model_call",
    )  # fmt: skip

    def __init__(
        self,
        run: Run,
        steps: Steps,
        *,
        worker_id: str,
        prices: Prices | None = None,
        routes: Mapping[str, seam.Routes] | None = None,
        sinks: tuple[Sink, ...] = (),
        waited_ms: float = 0.0,
        after_crash: bool = False,
    ) -> None:
        """``steps``: what saves records, if any are kept. ``waited_ms``: how long the slice waited
        for a worker, and so did its first nodes. ``after_crash``: whoever had the run before died with it."""
        self._run, self._steps = run, steps
        self._prices, self._routes, self._sinks = prices or Prices(), routes or {}, sinks
        self._about = About.of(run)
        self._worker_id, self._slice = worker_id, run.slices + 1
        self._waited_ms, self._after_crash = waited_ms, after_crash
        self._first_step: int | None = None
        self._tasks: dict[str, _Task] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        #: Whether anybody wants to know.
        self.is_on = steps.keeps_records or bool(sinks)
        #: Called with every model call as it ends, in whatever thread that is.
        self.on_model_call: list[Callable[[ModelCall], None]] = []

    # --- nodes

    def began(self, task: PregelExecutableTask, attempt: int) -> bool:
        """An attempt of a root task begins. Answers whether another worker has died over this very task: then wait for
        :meth:`written` before it takes this one down as well, and nobody learns what it was."""
        step = (task.config.get("metadata") or {}).get("langgraph_step")
        self._tasks[task.id] = _Task(task.name, step, attempt)
        if task.name == seam.START:
            return False
        if self._first_step is None:
            self._first_step = step
        if not self._after_crash or step != self._first_step:
            return False
        self.add(Kind.ATTEMPT, Status.LOST, node=task.name, step=step, attempt=attempt, slice=self._run.lost_slice,
                 timestamp=self._run.updated_at, worker=self._run.lost_worker or None, decision="taken up again",
                 error="its worker died or lost touch")  # fmt: skip
        return True

    def succeeded(self, task: PregelExecutableTask, began_at: float, took_s: float) -> None:
        """An attempt has ended well; ``began_at`` on the wall clock."""
        if not self.is_on:
            return
        targets, written = seam.destinations(task)
        known = self._known(task.id, task.name)
        if task.name != seam.START:
            self._attempt(known, Status.OK, began_at * 1000, took_s * 1000, result_count=written)
        routes = self._routes.get(task.name)
        if routes is not None and (routes.routers or any(target not in routes.static for target in targets)):
            self._decided(known, routes, targets, began_at + took_s)

    def left(self, task: PregelExecutableTask, began_at: float, took_s: float, why: BaseException) -> None:
        """An attempt was left without a result: it asks somebody, or it was cut off."""
        if self.is_on and isinstance(why, (GraphBubbleUp, asyncio.CancelledError)):
            self._attempt(self._known(task.id, task.name), status_of(why), began_at * 1000, took_s * 1000)

    def failed(self, noted: Mapping[str, Any]) -> None:
        """An attempt has failed, as it is ``noted`` with the run."""
        if not self.is_on:
            return
        known = self._known(noted["task_id"], noted["node"])
        status = Status.TIMEOUT if noted["error"] in _TIMEOUTS else Status.ERROR
        told = redact.text(f"{noted['error']}: {noted['message']}")
        self._attempt(known, status, noted["started_at"], noted["duration_ms"], error=told, decision=noted["decision"])

    def _known(self, task_id: str, node: str) -> _Task:
        return self._tasks.get(task_id) or _Task(node, None, 1)

    def _attempt(self, known: _Task, status: Status, began_at_ms: float, took_ms: float, **said: Any) -> None:
        if known.tokens is not None:
            said["tokens_used"], said["cost"] = known.tokens.told(), known.tokens.cost
        first = known.step == self._first_step and known.attempt == 1
        self.add(
            Kind.ATTEMPT, status, node=known.node, step=known.step, attempt=known.attempt,
            latency_ms=round(took_ms, 2), queue_ms=round(self._waited_ms, 1) if first else 0.0,
            timestamp=round(began_at_ms), **said,
        )  # fmt: skip

    def _decided(self, known: _Task, routes: seam.Routes, targets: list[str], at_s: float) -> None:
        chosen = [target for target in targets if target not in routes.static] or ["END"]
        self.add(
            Kind.DECISION, Status.OK, node=known.node, step=known.step, decision=counted(chosen),
            args={"router": " + ".join(routes.routers)} if routes.routers else {"command": "goto"},
            result_count=len(chosen), timestamp=round(at_s * 1000),
        )  # fmt: skip

    # --- what nodes call

    def step_and_attempt(self, task_id: str) -> tuple[int | None, int | None]:
        """Where a root task stands that calls something."""
        known = self._tasks.get(task_id)
        return (known.step, known.attempt) if known else (None, None)

    def called_model(self, task_id: str, node: str, model: str, tokens_in: int, tokens_out: int) -> ModelCall:
        """Count a model's call; whoever keeps a budget is told."""
        call = ModelCall(model, tokens_in, tokens_out, self._prices.cost(model, tokens_in, tokens_out), task_id, node)
        if (known := self._tasks.get(task_id)) is not None:
            known.tokens = known.tokens or Tokens()
            known.tokens.add(model, tokens_in, tokens_out, call.cost)
        for listener in self.on_model_call:
            listener(call)
        return call

    # --- writing

    def add(self, kind: Kind, status: Status, **said: Any) -> None:
        """Note something that has ended. ``said`` are fields of a record; what is None is left out."""
        if not self.is_on:
            return
        at_ms = said.pop("timestamp", None) or round(time.time() * 1000)
        record = {"kind": kind.value, "status": status.value, "timestamp": at_ms, "worker": self._worker_id,
                  "slice": self._slice, **said}  # fmt: skip
        packed = orjson.dumps({name: value for name, value in record.items() if value is not None})
        if self._steps.keeps_records:
            self._steps.note(packed)
        for sink in self._sinks:
            sink(self._about, record, packed)

    def flush(self) -> None:
        """Send what is pending ahead of whatever the store is asked for next."""
        self._steps.flush()

    async def written(self) -> None:
        """Send what is pending, and wait until the store has it."""
        await self._steps.flushed()

    def flush_soon(self) -> None:
        """Have what is pending sent in a moment, should nothing be saved before. From any thread."""
        if self._timer is None and self._steps.keeps_records:
            self._loop.call_soon_threadsafe(self._set_timer)

    def close(self) -> None:
        """The slice is over: what is left goes with what it came to."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE_S, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self.flush()


def status_of(error: BaseException) -> Status:
    """The word for how something ended that raised."""
    if isinstance(error, ParentCommand):  # a node of a subgraph that says where the graph around it goes on
        return Status.OK
    if isinstance(error, GraphInterrupt):
        return Status.INTERRUPTED
    if isinstance(error, (GraphBubbleUp, asyncio.CancelledError)):
        return Status.CANCELLED
    return Status.TIMEOUT if isinstance(error, (TimeoutError, NodeTimeoutError)) else Status.ERROR


def counted(names: list[str]) -> str:
    """Names with how often each comes, in order: ``search ×3, write``."""
    times: dict[str, int] = {}
    for name in names:
        times[name] = times.get(name, 0) + 1
    return ", ".join(f"{name} ×{many}" if many > 1 else name for name, many in times.items())
