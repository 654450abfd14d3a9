"""What a node has to pass before an attempt: a circuit that is not open, and room in a limit it shares with the fleet.

A short wait is waited in place. A longer one leaves the task without writes and parks the run, or the branch, once
nothing else of it is at work: siblings that have finished stay saved, the worker is freed, and no attempt is counted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import structlog
from langgraph.errors import GraphBubbleUp
from langgraph.types import PregelExecutableTask

from runyard.engine import metrics, wire
from runyard.engine.breaker import Admission, Circuit, Result
from runyard.engine.errors import CircuitOpen, LeaseLost, StoreUnavailable
from runyard.engine.policy import NodePolicy
from runyard.engine.retry import retry_after_s
from runyard.engine.run import Run
from runyard.engine.shares import ASK_EVERY_S, Ticket
from runyard.engine.store.circuits import Turned
from runyard.engine.store.fence import Fence
from runyard.engine.store.runs import member_of
from runyard.engine.worker import Worker

log = structlog.get_logger(__name__)

Once = Callable[[], Awaitable[Any]]
#: A wait up to this long is waited in the worker; a longer one frees it. In seconds.
MOMENT_S = 1.0
#: How long the tasks of a superstep are given to begin before the run may park, in seconds.
_BEGIN_S = 0.05
#: A run that is parked at a circuit which an operator keeps open looks at it this often, in seconds.
_FORCED_S = 60.0
#: The name of the event that tells a run's readers that a circuit has changed.
CIRCUIT_EVENT = "circuit"


class Parks(GraphBubbleUp):
    """There is no room for this node now: the task stays without writes, its siblings go on."""


class Gate:
    """The gate of one slice or branch. ``busy`` counts its tasks that do not wait here."""

    def __init__(
        self, worker: Worker, run: Run, fence: Fence, branch: str | None, tell: Callable[[str, bytes], None]
    ) -> None:
        """``tell`` writes an event to the run's readers."""
        self._worker, self._run, self._fence, self._tell = worker, run, fence, tell
        self._member = member_of(run.run_id, branch)
        self._before = {(entry["task_id"], entry["name"]): entry["since"] for entry in run.parked + run.parked_branches}
        self.busy = 0
        #: What each parked task waits for; see :class:`runyard.engine.run.Parked`.
        self.parked: list[dict[str, Any]] = []
        #: At most how long each of them is to wait, in seconds.
        self.waits: list[float] = []

    async def passed(self, task: PregelExecutableTask, policy: NodePolicy, attempt: int, once: Once) -> Any:
        """One attempt of a node, once there is room for it.

        Raises Parks when there is none for long, and CircuitOpen when its policy does not wait for a circuit.
        """

        async def timed() -> Any:
            began = time.monotonic()
            given = await once()
            self._is_late(task, policy, time.monotonic() - began)
            return given

        if policy.circuit is None:
            return await self._with_share(task, policy, timed)
        caller = f"{self._run.run_id}/{task.id}#{self._fence.value}.{attempt}"
        admission = await self._admitted(task, policy.circuit, caller, policy.when_open)
        asked = time.monotonic()
        result = Result.VOID

        async def watched() -> Any:
            nonlocal admission, result
            if time.monotonic() - asked > MOMENT_S:  # it waited for its share: much may have happened
                admission = await self._admitted(task, policy.circuit, caller, policy.when_open)  # type: ignore[arg-type]
            began = time.monotonic()
            try:
                given = await once()
            except (GraphBubbleUp, LeaseLost, StoreUnavailable):
                raise
            except Exception:
                result = Result.ERROR
                raise
            result = Result.SLOW if self._is_late(task, policy, time.monotonic() - began) else Result.OK
            return given

        try:
            return await self._with_share(task, policy, watched)
        finally:
            await self._worker.circuits.record(policy.circuit, caller, admission, result, self._turned)

    def _is_late(self, task: PregelExecutableTask, policy: NodePolicy, took_s: float) -> bool:
        """Whether an attempt that succeeded took longer than it should have."""
        late = policy.sla_ms is not None and took_s * 1000 > policy.sla_ms
        if late:
            metrics.inc("runyard_node_sla_breaches_total", self._run.graph_id, task.name)
            log.warning("node.sla_breached", run_id=self._run.run_id, graph_id=self._run.graph_id, node=task.name,
                        sla_ms=policy.sla_ms, took_ms=round(took_s * 1000, 1))  # fmt: skip
        return late

    # --- circuits

    async def _admitted(self, task: PregelExecutableTask, circuit: Circuit, caller: str, when_open: str) -> Admission:
        parks = when_open == "park"
        wake = self._member if parks else ""
        asked = await self._worker.circuits.admit(
            circuit, caller, self._turned, wake=wake, believed_s=max(_FORCED_S, circuit.open_s)
        )
        if asked.may_call:
            return asked
        wait_s = asked.wait_ms / 1000 or _FORCED_S
        if parks:  # not all at once: those that come first find out for the others
            self._park(task, "circuit", circuit.name, wait_s * random.uniform(1.0, 1.1))  # noqa: S311 - spreads load
        raise CircuitOpen(
            f"Circuit {circuit.name!r} is open: {task.name!r} was not called. It tries in {wait_s:.0f} s."
        )

    def _turned(self, turned: Turned) -> None:
        """A call of this run has changed a circuit: its readers are told, too."""
        told = {"circuit": turned.name, "from": str(turned.before), "to": str(turned.now), "why": turned.why}
        self._tell(CIRCUIT_EVENT, wire.encode(told))

    # --- limits

    async def _with_share(self, task: PregelExecutableTask, policy: NodePolicy, once: Once) -> Any:
        if policy.limit is None:
            return await once()
        ticket = await self._share(task, policy.limit)
        blocked_s = 0.0
        try:
            return await once()
        except Exception as error:
            blocked_s = retry_after_s(error, datetime.now(UTC)) or 0.0
            raise
        finally:
            ticket.give_back(blocked_s=blocked_s)

    async def _share(self, task: PregelExecutableTask, name: str) -> Ticket:
        ticket = self._worker.shares.ticket(
            self._worker.limits[name], f"{self._run.run_id}/{task.id}", self._fence.value
        )
        self.busy -= 1
        try:
            if not await ticket.take():
                await self._wait(task, ticket)
        except (Parks, LeaseLost):
            raise
        except BaseException:
            ticket.leave()
            raise
        finally:
            self.busy += 1
        return ticket

    async def _wait(self, task: PregelExecutableTask, ticket: Ticket) -> None:
        began = time.monotonic()
        while True:
            waited_s = time.monotonic() - began
            if self._is_to_park(waited_s, ticket):
                has_share, most_s = await ticket.park(self._member)
                if has_share:
                    return
                self._park(task, "limit", ticket.limit.name, 0.0 if self._worker.draining else most_s)
            await ticket.wait(_BEGIN_S if waited_s < _BEGIN_S else ASK_EVERY_S)
            if await ticket.take():
                return

    def _is_to_park(self, waited_s: float, ticket: Ticket) -> bool:
        if self._worker.draining:
            return True
        if self.busy or waited_s < _BEGIN_S:  # as long as a sibling is at work the worker is not freed anyway
            return False
        return max(waited_s, ticket.wait_s) >= MOMENT_S

    def exhausted(self, task: PregelExecutableTask, error: str, wait_s: float) -> NoReturn:
        """Park a task whose attempts are used up."""
        self._park(task, "exhausted", error, wait_s)

    def _park(self, task: PregelExecutableTask, why: str, name: str, wait_s: float) -> NoReturn:
        since = self._before.get((task.id, name)) or round(time.time() * 1000)
        self.parked.append({"task_id": task.id, "node": task.name, "why": why, "name": name, "since": since})
        self.waits.append(wait_s)
        raise Parks(task.id)
