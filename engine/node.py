"""One node of a run: attempts within a deadline, each failure noted, and what follows when all have failed.

The count of attempts is the store's, by run and task, so neither a crash nor another worker begins it anew.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langgraph.errors import GraphBubbleUp, NodeTimeoutError
from langgraph.types import Command, PregelExecutableTask, RetryPolicy

from runyard.engine import seam, wire
from runyard.engine.doom import foretell, timeout_of
from runyard.engine.effects import Journal, journal
from runyard.engine.errors import LeaseLost, StoreUnavailable
from runyard.engine.gate import MOMENT_S, Gate
from runyard.engine.ledger import Ledger
from runyard.engine.policy import NodePolicy
from runyard.engine.retry import GiveUp, TryAgain, decide
from runyard.engine.run import Parked, RetryLater, Run
from runyard.engine.store import runs
from runyard.engine.store.fence import Fence
from runyard.engine.worker import Graph, Worker

_NO_POLICY = NodePolicy()


class WaitsForRetry(GraphBubbleUp):
    """The next attempt is not due yet: the task stays without writes, its siblings go on."""


class _Clock:
    """When an attempt began: on the wall, and to measure by."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.began_at, self._began = time.time(), time.monotonic()

    def took_s(self) -> float:
        return time.monotonic() - self._began


class NodeRunner:
    """Runs the nodes of one slice or branch. ``degraded`` is what nodes that follow can read of what is missing."""

    def __init__(
        self,
        worker: Worker,
        run: Run,
        fence: Fence,
        graph: Graph,
        policies: dict[str, NodePolicy],
        degraded: list[dict[str, Any]],
        ledger: Ledger,
        doom: dict[str, Any] | None = None,
        branch: str | None = None,
    ) -> None:
        self._worker, self._run, self._fence, self._graph = worker, run, fence, graph
        self._policies, self._degraded, self._doom = policies, degraded, doom
        self._ledger = ledger
        #: What this process may be killed for: task id to its attempt.
        self._running: dict[str, dict[str, Any]] = {}
        self.gate = Gate(worker, run, fence, branch)
        #: How long each task that waits for its next attempt has to wait, in seconds.
        self.waits: list[float] = []
        #: Failed for good: task id and node of each, in order.
        self.failed: list[tuple[str, str]] = []

    async def __call__(self, task: PregelExecutableTask, once: seam.Once, policies: Sequence[RetryPolicy]) -> Any:
        """Bring a task to its end: what it returns, what stands in for it, or its last error.

        Raises WaitsForRetry when the next attempt is more than a moment away, Parks when there is no room for one;
        LeaseLost and StoreUnavailable are not attempts and pass through.
        """
        self.gate.busy += 1
        try:
            return await self._brought_to_its_end(task, once, policies)
        finally:
            self.gate.busy -= 1

    async def _brought_to_its_end(
        self, task: PregelExecutableTask, once: seam.Once, policies: Sequence[RetryPolicy]
    ) -> Any:
        if (supplied := self._run.supplied.get(task.id)) is not None:
            return await seam.stand_in(task, _by_hand(supplied))
        attempt = self._run.attempts.get(task.id, 0) + 1
        clock = _Clock()
        error: Exception | None = timeout_of(self._doom, task.name, task.id, attempt)
        while True:
            self._ledger.began(task, attempt)
            if error is None:
                try:
                    return await self._once_there_is_room(task, once, attempt, clock)
                except (GraphBubbleUp, LeaseLost, StoreUnavailable):
                    raise
                except Exception as raised:  # noqa: BLE001 - whatever a node raises is an attempt of it
                    error = raised
            decision = decide(policies, error, attempt)
            record = self._record(task, attempt, error, clock, decision)
            if isinstance(decision, GiveUp):
                return await self._give_up(task, error, record)
            await self._note(record)
            await self._wait(task, decision)
            attempt, error = attempt + 1, None

    async def _once_there_is_room(
        self, task: PregelExecutableTask, once: seam.Once, attempt: int, clock: _Clock
    ) -> Any:
        policy = self._policy(task)
        if not policy.is_gated:
            return await self._noted(task, once, attempt, clock)
        return await self.gate.passed(task, policy, lambda: self._noted(task, once, attempt, clock))

    async def _noted(self, task: PregelExecutableTask, once: seam.Once, attempt: int, clock: _Clock) -> Any:
        """One attempt, with its place in the ledger unless it fails: then a decision belongs to it."""
        clock.start()
        try:
            result = await self._within_deadline(task, once, attempt)
        except (GraphBubbleUp, LeaseLost, StoreUnavailable, asyncio.CancelledError) as left:
            self._ledger.left(task, clock.began_at, clock.took_s(), left)
            raise
        self._ledger.succeeded(task, clock.began_at, clock.took_s())
        return result

    def waits_until(self) -> RetryLater | Parked:
        """What a slice comes to when nothing is left of it but tasks that wait."""
        wait_s = min(self.waits + self.gate.waits)
        return Parked(wait_s, tuple(self.gate.parked)) if self.gate.parked else RetryLater(wait_s)

    async def _within_deadline(self, task: PregelExecutableTask, once: seam.Once, attempt: int) -> Any:
        """One attempt. A plain function that outlives its deadline is abandoned in its thread, fenced off, or, in a
        process that may be killed, ends with it."""
        deadline_s = self._policy(task).deadline_s or self._worker.settings.node_deadline_s
        began = time.monotonic()
        try:
            async with self._foretold(task, attempt, deadline_s), asyncio.timeout(deadline_s) as limit:
                with self._worker.attempting(task), journal(self._journal(task)):
                    return await once(seam.single(task, attempt))
        except TimeoutError:
            if not limit.expired():  # the node's own
                raise
            if seam.is_sync(task):
                self._worker.abandon(task.name)
            elapsed = time.monotonic() - began
            raise NodeTimeoutError(task.name, elapsed, kind="run", run_timeout=deadline_s) from None

    def _journal(self, task: PregelExecutableTask) -> Journal:
        worker = self._worker
        return Journal(worker.keys, self._run.run_id, task.id, self._fence, worker.store, worker.sync_store)

    @asynccontextmanager
    async def _foretold(self, task: PregelExecutableTask, attempt: int, deadline_s: float) -> AsyncIterator[None]:
        """Note what this process may be killed for: a dead process cannot say it."""
        if not self._worker.expendable:
            yield
            return
        self._running[task.id] = {
            "task_id": task.id, "attempt": attempt, "deadline_s": deadline_s, "started_at": time.time(),
        }  # fmt: skip
        try:
            running = list(self._running.values())
            await self._worker.store.do(foretell(self._worker.keys, self._run.run_id, self._fence, running))
            with self._worker.killed_after(deadline_s):
                yield
        finally:
            del self._running[task.id]

    async def _wait(self, task: PregelExecutableTask, decision: TryAgain) -> None:
        spent = self._worker.expendable and self._worker.abandoned  # the attempt before goes on until the process ends
        if decision.wait_s > MOMENT_S or spent:
            self.waits.append(decision.wait_s)
            raise WaitsForRetry(task.id)
        await asyncio.sleep(decision.wait_s)

    async def _give_up(self, task: PregelExecutableTask, error: Exception, record: dict[str, Any]) -> Any:
        """All attempts are used up: go on without the node where its policy says how, else raise its error."""
        policy = self._policy(task)
        if policy.fallback is None and policy.required:
            await self._note(record)
            if task.name not in self._graph.node_error_handler_map:
                self.failed.append((task.id, task.name))
            raise error
        instead = "nothing" if policy.fallback is None else "fallback"
        value = None if policy.fallback is None else await self._fallback(task, policy.fallback, error)
        missing = {key: record[key] for key in ("task_id", "node", "attempt", "error", "message")}
        missing["instead"] = instead
        await self._note({**record, "decision": f"gave up; {instead} in its place"}, degraded=missing)
        self._degraded.append(missing)
        return await seam.stand_in(task, value)

    async def _fallback(self, task: PregelExecutableTask, fallback: Any, error: Exception) -> Any:
        """What the fallback gives: a constant, another node of the graph, or a function of the input and the error."""
        if isinstance(fallback, dict):
            return fallback["value"]
        if isinstance(fallback, str):
            return await self._graph.nodes[fallback].bound.ainvoke(task.input, task.config)
        given = (task.input, error)[: len(inspect.signature(fallback).parameters)]
        made = fallback(*given)
        return await made if inspect.isawaitable(made) else made

    async def _note(self, record: dict[str, Any], degraded: dict[str, Any] | None = None) -> None:
        call = runs.note_attempt(self._worker.keys, self._run.run_id, self._fence, record, degraded=degraded)
        self._ledger.failed(record)
        self._ledger.flush()
        await self._worker.store.do(call)

    def _policy(self, task: PregelExecutableTask) -> NodePolicy:
        return self._policies.get(task.name, _NO_POLICY)

    def _record(
        self,
        task: PregelExecutableTask,
        attempt: int,
        error: Exception,
        clock: _Clock,
        decision: GiveUp | TryAgain,
    ) -> dict[str, Any]:
        again = f"again in {decision.wait_s:.1f} s" if isinstance(decision, TryAgain) else "gave up"
        return {
            "task_id": task.id,
            "node": task.name,
            "attempt": attempt,
            **wire.error_of(error),
            "traceback": "".join(traceback.format_exception(error))[-10_000:],
            "started_at": round(clock.began_at * 1000),
            "duration_ms": round(clock.took_s() * 1000, 1),
            "worker": self._worker.worker_id,
            "slice": self._run.slices + 1,
            "decision": again,
        }


def _by_hand(supplied: dict[str, Any]) -> Any:
    if "goto" in supplied:
        return Command(goto=supplied["goto"], update=supplied.get("value"))
    return supplied.get("value")
