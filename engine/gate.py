"""What a node has to pass before an attempt: room in the limits it shares with the fleet.

A short wait is waited in place. A longer one leaves the task without writes and parks the run, or the branch, once
nothing else of it is at work: siblings that have finished stay saved, the worker is freed, and no attempt is counted.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from langgraph.errors import GraphBubbleUp
from langgraph.types import PregelExecutableTask

from runyard.engine.errors import LeaseLost
from runyard.engine.policy import NodePolicy
from runyard.engine.retry import retry_after_s
from runyard.engine.run import Run
from runyard.engine.shares import ASK_EVERY_S, Ticket
from runyard.engine.store.fence import Fence
from runyard.engine.store.runs import member_of
from runyard.engine.worker import Worker

#: A wait up to this long is waited in the worker; a longer one frees it. In seconds.
MOMENT_S = 1.0
#: How long the tasks of a superstep are given to begin before the run may park, in seconds.
_BEGIN_S = 0.05


class Parks(GraphBubbleUp):
    """There is no room for this node now: the task stays without writes, its siblings go on."""


class Gate:
    """The gate of one slice or branch. ``busy`` counts its tasks that do not wait here."""

    def __init__(self, worker: Worker, run: Run, fence: Fence, branch: str | None) -> None:
        self._worker, self._run, self._fence = worker, run, fence
        self._member = member_of(run.run_id, branch)
        self._before = {(entry["task_id"], entry["name"]): entry["since"] for entry in run.parked + run.parked_branches}
        self.busy = 0
        #: What each parked task waits for; see :class:`runyard.engine.run.Parked`.
        self.parked: list[dict[str, Any]] = []
        #: At most how long each of them is to wait, in seconds.
        self.waits: list[float] = []

    async def passed(self, task: PregelExecutableTask, policy: NodePolicy, once: Callable[[], Awaitable[Any]]) -> Any:
        """One attempt of a node, once there is room for it. Raises Parks when there is none for long."""
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
        ticket = self._worker.shares.ticket(name, self._run.run_id, task.id, self._fence.value)
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
            if self._is_to_park(time.monotonic() - began, ticket):
                has_share, most_s = await ticket.park(self._member)
                if has_share:
                    return
                self._park(task, "limit", ticket.limit.name, 0.0 if self._worker.draining else most_s)
            first = time.monotonic() - began < _BEGIN_S
            await ticket.wait(_BEGIN_S if first else ASK_EVERY_S)
            if await ticket.take():
                return

    def _is_to_park(self, waited_s: float, ticket: Ticket) -> bool:
        if self._worker.draining:
            return True
        if self.busy or waited_s < _BEGIN_S:  # as long as a sibling is at work the worker is not freed anyway
            return False
        return max(waited_s, ticket.wait_s) >= MOMENT_S

    def _park(self, task: PregelExecutableTask, why: str, name: str, wait_s: float) -> None:
        since = self._before.get((task.id, name)) or round(time.time() * 1000)
        self.parked.append({"task_id": task.id, "node": task.name, "why": why, "name": name, "since": since})
        self.waits.append(wait_s)
        raise Parks(task.id)
