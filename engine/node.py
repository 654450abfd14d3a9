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
from runyard.engine.ledger import Ledger
from runyard.engine.policy import NodePolicy
from runyard.engine.retry import GiveUp, TryAgain, decide
from runyard.engine.run import Run
from runyard.engine.store import runs
from runyard.engine.store.fence import Fence
from runyard.engine.worker import Graph, Worker

#: A wait up to this long is sat out in the worker; a longer one frees it. In seconds.
MOMENT_S = 1.0
_NO_POLICY = NodePolicy()


class WaitsForRetry(GraphBubbleUp):
    """The next attempt is not due yet: the task stays without writes, its siblings go on."""


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
    ) -> None:
        self._worker, self._run, self._fence, self._graph = worker, run, fence, graph
        self._policies, self._degraded, self._doom = policies, degraded, doom
        self._ledger = ledger
        #: What this process may be killed for: task id to its attempt.
        self._running: dict[str, dict[str, Any]] = {}
        #: How long each task that waits for its next attempt has to wait, in seconds.
        self.waits: list[float] = []
        #: Failed for good: task id and node of each, in order.
        self.failed: list[tuple[str, str]] = []

    async def __call__(self, task: PregelExecutableTask, once: seam.Once, policies: Sequence[RetryPolicy]) -> Any:
        """Bring a task to its end: what it returns, what stands in for it, or its last error.

        Raises WaitsForRetry when the next attempt is more than a moment away; LeaseLost and StoreUnavailable are not
        attempts and pass through.
        """
        if (supplied := self._run.supplied.get(task.id)) is not None:
            return await seam.stand_in(task, _by_hand(supplied))
        attempt = self._run.attempts.get(task.id, 0) + 1
        began_at, began = time.time(), time.monotonic()
        error: Exception | None = timeout_of(self._doom, task.name, task.id, attempt)
        while True:
            self._ledger.began(task, attempt)
            if error is None:
                try:
                    began_at, began = time.time(), time.monotonic()
                    result = await self._within_deadline(task, once, attempt)
                    self._ledger.succeeded(task, began_at, time.monotonic() - began)
                    return result
                except (GraphBubbleUp, LeaseLost, StoreUnavailable, asyncio.CancelledError) as left:
                    self._ledger.left(task, began_at, time.monotonic() - began, left)
                    raise
                except Exception as raised:  # noqa: BLE001 - whatever a node raises is an attempt of it
                    error = raised
            decision = decide(policies, error, attempt)
            record = self._record(task, attempt, error, began_at, time.monotonic() - began, decision)
            if isinstance(decision, GiveUp):
                return await self._give_up(task, error, record)
            await self._note(record)
            await self._wait(task, decision)
            attempt, error = attempt + 1, None

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
        began_at: float,
        took_s: float,
        decision: GiveUp | TryAgain,
    ) -> dict[str, Any]:
        again = f"again in {decision.wait_s:.1f} s" if isinstance(decision, TryAgain) else "gave up"
        return {
            "task_id": task.id,
            "node": task.name,
            "attempt": attempt,
            **wire.error_of(error),
            "traceback": "".join(traceback.format_exception(error))[-10_000:],
            "started_at": round(began_at * 1000),
            "duration_ms": round(took_s * 1000, 1),
            "worker": self._worker.worker_id,
            "slice": self._run.slices + 1,
            "decision": again,
        }


def _by_hand(supplied: dict[str, Any]) -> Any:
    if "goto" in supplied:
        return Command(goto=supplied["goto"], update=supplied.get("value"))
    return supplied.get("value")
