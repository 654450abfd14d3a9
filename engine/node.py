"""One node of a run: attempts within a deadline, each failure noted, and what follows when all have failed.

The count of attempts is the store's, by run and task, so neither a crash nor another worker begins it anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn

from langgraph.errors import GraphBubbleUp, NodeTimeoutError
from langgraph.types import PregelExecutableTask, RetryPolicy

from runyard.engine import seam, wire
from runyard.engine.attempt import Clock, record_of
from runyard.engine.deadlines import TimeLimit
from runyard.engine.doom import foretell, timeout_of
from runyard.engine.effects import Journal
from runyard.engine.errors import BudgetExceeded, CircuitOpen, LeaseLost, Recorded, StoreUnavailable
from runyard.engine.fanout import CutOff, Fanout, Verdict, fanouts
from runyard.engine.gate import MOMENT_S, Gate
from runyard.engine.instead import by_hand, fallback_of, missing_of
from runyard.engine.ledger import Ledger
from runyard.engine.policy import NodePolicy, stale_of
from runyard.engine.retry import GiveUp, TryAgain, decide
from runyard.engine.run import Parked, RetryLater, Run
from runyard.engine.stale import Kept, NothingKept
from runyard.engine.steps import Steps
from runyard.engine.store import runs
from runyard.engine.store.fence import Fence
from runyard.engine.worker import Graph, Worker

_TEN_YEARS_S = 10 * 366 * 86400.0
_NO_POLICY = NodePolicy()


class WaitsForRetry(GraphBubbleUp):
    """The next attempt is not due yet: the task stays without writes, its siblings go on."""


class LeftOpen(WaitsForRetry):
    """The task failed for good, and whether it may be missing depends on siblings that have not ended."""


class _Exhausted(Exception):
    """There is no further attempt: the last one's error and record."""

    def __init__(self, error: Exception, record: dict[str, Any]) -> None:
        super().__init__()
        self.error, self.record = error, record


class NodeRunner:
    """Runs the nodes of one slice or branch. ``degraded`` is what nodes that follow can read of what is missing."""

    __slots__ = (
        "_again", "_at_work", "_degraded", "_doom", "_fanouts", "_fence", "_graph", "_in_branch", "_ledger",
        "_made_at", "_now_ms", "_parts", "_policies", "_run", "_running", "_steps", "_trying", "_worker", "failed",
        "gate", "left_running", "may_be_partial", "waits",
    )  # fmt: skip

    def __init__(
        self,
        worker: Worker,
        run: Run,
        fence: Fence,
        graph: Graph,
        policies: dict[str, NodePolicy],
        degraded: list[dict[str, Any]],
        ledger: Ledger,
        steps: Steps,
        doom: dict[str, Any] | None = None,
        branch: str | None = None,
        *,
        now_ms: int,
    ) -> None:
        """``now_ms`` is the store's clock; in a branch nothing is decided that depends on tasks of other branches."""
        self._worker, self._run, self._fence, self._graph = worker, run, fence, graph
        self._policies, self._degraded, self._doom = policies, degraded, doom
        self._ledger, self._steps = ledger, steps
        self._now_ms, self._in_branch = now_ms, branch is not None
        self._made_at = asyncio.get_running_loop().time()
        self.may_be_partial = any(policy.quorum is not None for policy in policies.values())
        #: The fan-out of each task of the superstep that is of one.
        self._fanouts: dict[str, Fanout] = {}
        #: Tasks whose last attempt is noted, while it is not known whether they may be missing.
        self._parts = list(run.parts)
        #: The attempt that each task is in, and when it began.
        self._trying: dict[str, tuple[int, Clock]] = {}
        #: What this process may be killed for: task id to its attempt.
        self._running: dict[str, dict[str, Any]] = {}
        self.gate = Gate(worker, run, fence, branch, steps.tell)
        #: How many tasks are under way.
        self._at_work = 0
        #: How long each task that waits for its next attempt has to wait, in seconds.
        self.waits: list[float] = []
        #: Nodes that are to be tried again later, with the number of the attempt.
        self._again: list[tuple[str, int]] = []
        #: Failed for good: task id, node and last attempt of each, in order.
        self.failed: list[tuple[str, str, int]] = []
        #: Nodes whose plain function was in its thread when the slice was cut off: nothing can stop it there.
        self.left_running: list[str] = []

    async def __call__(self, task: PregelExecutableTask, once: seam.Once, policies: Sequence[RetryPolicy]) -> Any:
        """Bring a task to its end: what it returns, what stands in for it, or its last error.

        Raises WaitsForRetry when the next attempt is more than a moment away, Parks when there is no room for one;
        LeaseLost and StoreUnavailable are not attempts and pass through.
        """
        fanout = self._fanouts.get(task.id)
        last: _Exhausted | None = None
        value = None
        self._begins()
        try:
            try:
                if fanout is None:
                    return await self._attempts(task, once, policies)
                value = await self._as_part(fanout, task, once, policies)
            except _Exhausted as exhausted:
                last = exhausted  # what follows is raised without it: it is nothing of the node's author
            if last is not None:
                value = await self._give_up(task, last.error, last.record)
            if fanout is not None:
                fanout.answer(task.id)
                await self._count(fanout, task)
            return value
        finally:
            self._ends()

    def _begins(self) -> None:
        self.gate.busy += 1
        self._at_work += 1
        if self._at_work == 1:
            self._worker.pace.node_at_work()
            self._steps.node_at_work()

    def _ends(self) -> None:
        self.gate.busy -= 1
        self._at_work -= 1
        if self._at_work == 0:
            self._worker.pace.nodes_ended()
            self._steps.nodes_ended()

    async def _attempts(self, task: PregelExecutableTask, once: seam.Once, policies: Sequence[RetryPolicy]) -> Any:
        """Try until the task succeeds. Raises _Exhausted when there is no further attempt."""
        if (supplied := self._run.supplied.get(task.id)) is not None:
            return await self._supply(task, supplied)
        self._check_has_attempt(task)
        attempt = self._run.attempts.get(task.id, 0) + 1
        policy, clock = self._policy(task), Clock()
        error: Exception | None = self._killed(task, attempt, clock)
        while True:
            if self._ledger.began(task, attempt):
                await self._ledger.written()
            if error is None:
                try:
                    return await self._once_there_is_room(task, once, policy, attempt, clock)
                except (GraphBubbleUp, LeaseLost, StoreUnavailable):
                    raise
                except Exception as raised:  # noqa: BLE001 - whatever a node raises is an attempt of it
                    error = raised
                    self._trying.pop(task.id, None)
            # An open circuit is not asked again at once: that is what it is for.
            refused = isinstance(error, CircuitOpen | BudgetExceeded)
            decision = (
                GiveUp(exhausted=False) if refused else decide(policies, error, attempt - self._before_round(task))
            )
            record = self._record(task, attempt, error, clock, decision)
            if isinstance(decision, GiveUp):
                raise _Exhausted(error, record)
            await self._note(record, again_s=decision.wait_s)
            await self._wait(task, decision, attempt + 1)
            attempt, error = attempt + 1, None

    def _killed(self, task: PregelExecutableTask, attempt: int, clock: Clock) -> NodeTimeoutError | None:
        """The failure of this attempt, if the process that made it was killed for its deadline."""
        error = timeout_of(self._doom, task.name, task.id, attempt)
        if error is not None and self._doom is not None:
            clock.began_before(error.elapsed, worker=f"{self._doom['host']}:{self._doom['pid']}")
        return error

    async def _supply(self, task: PregelExecutableTask, supplied: dict[str, Any]) -> None:
        try:
            await seam.stand_in(task, by_hand(supplied))
        except (GraphBubbleUp, LeaseLost, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - what an operator gave does not fit; the letter names the node
            self._fail(task, error, self._run.attempts.get(task.id, 0))

    def _check_has_attempt(self, task: PregelExecutableTask) -> None:
        """Raise _Exhausted, WaitsForRetry or Parks when it is known that no attempt is to be made now."""
        if (known := self._run.parts.get(task.id)) is not None:
            raise _Exhausted(Recorded(known), known)
        self.wait_if_early(task)

    def _once_there_is_room(
        self, task: PregelExecutableTask, once: seam.Once, policy: NodePolicy, attempt: int, clock: Clock
    ) -> Awaitable[Any]:
        if not policy.is_gated:
            return self._noted(task, once, policy, attempt, clock)
        return self.gate.passed(task, policy, attempt, partial(self._noted, task, once, policy, attempt, clock))

    async def _noted(
        self, task: PregelExecutableTask, once: seam.Once, policy: NodePolicy, attempt: int, clock: Clock
    ) -> Any:
        """One attempt, with its place in the ledger unless it fails: then a decision belongs to it."""
        clock.start()
        self._trying[task.id] = attempt, clock
        try:
            result = await self._within_deadline(task, once, policy, attempt)
        except (GraphBubbleUp, LeaseLost, StoreUnavailable, asyncio.CancelledError) as left:
            self._ledger.left(task, clock.began_at, clock.took_s(), left)
            raise
        self._ledger.succeeded(task, clock.began_at, clock.took_s())
        if (stale := policy.stale) is not None:
            await self._kept().remember(task, stale, result)
        return result

    async def _as_part(
        self, fanout: Fanout, task: PregelExecutableTask, once: seam.Once, policies: Sequence[RetryPolicy]
    ) -> Any:
        """As :meth:`_attempts`, for as long as the fan-out has."""
        if task.id in self._run.parts or task.id in self._run.supplied:
            return await self._attempts(task, once, policies)
        if fanout.is_over:
            raise self._too_late(fanout, task)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                with fanout.limiting(limit):
                    await self._count(fanout, task)
                    return await self._attempts(task, once, policies)
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._too_late(fanout, task) from None

    # --- fan-outs that need not be complete

    def begin(self, tasks: Mapping[str, PregelExecutableTask]) -> None:
        """A superstep is about to start."""
        self._fanouts = fanouts(tasks, self._policies) if self.may_be_partial else {}
        for fanout in self._fanouts.values():
            if (cut_at := self._run.cuts.get(fanout.key)) is not None:
                fanout.end_at(self._made_at + (cut_at - self._now_ms) / 1000)

    def left(self, task: PregelExecutableTask) -> None:
        """A task is not run here, or not any more."""
        if (fanout := self._fanouts.get(task.id)) is not None:
            fanout.leave(task.id)

    def is_settled(self, task: PregelExecutableTask) -> bool:
        """Whether nothing is executed for a task any more: it has failed for good, or is too late."""
        fanout = self._fanouts.get(task.id)
        return task.id in self._run.parts or (fanout is not None and fanout.is_over)

    def cut_key(self, task: PregelExecutableTask) -> str:
        """The fan-out that a task can be cut off with, or ""."""
        fanout = self._fanouts.get(task.id)
        return fanout.key if fanout is not None and fanout.rest_s is not None else ""

    def cut_at_ms(self, keys: set[str]) -> int | None:
        """When the first of these fan-outs is cut off, as far as that is known; on the store's clock."""
        return min((at for key, at in self._run.cuts.items() if key in keys), default=None)

    def is_waiting(self, task: PregelExecutableTask) -> bool:
        """Whether the next attempt is not due yet: the run was woken for something else."""
        is_early = self._run.again.get(task.id, 0) > max(self._now_ms, self._run.due_at or 0)
        return is_early and not self.is_settled(task)

    def wait_if_early(self, task: PregelExecutableTask) -> None:
        """Leave a task that ``is_waiting`` as it is. Raises WaitsForRetry, or Parks."""
        if not self.is_waiting(task):
            return
        wait_s = (self._run.again[task.id] - self._now_ms) / 1000
        last = self._run.rounds.get(task.id)
        if last is not None and last["attempt"] == self._run.attempts.get(task.id):
            self._park(task, last, wait_s)
        self.waits.append(wait_s)
        raise WaitsForRetry(task.id)

    def _before_round(self, task: PregelExecutableTask) -> int:
        """How many attempts were used up before the task was parked."""
        return int(self._run.rounds.get(task.id, {}).get("attempt", 0))

    def _park(self, task: PregelExecutableTask, last: dict[str, Any], wait_s: float) -> NoReturn:
        """Leave a task to an operator, or to time. In a branch the run does it, when the other tasks have ended."""
        if self._in_branch:
            raise LeftOpen(task.id)
        self.gate.exhausted(task, f"{last['error']}: {last['message']}", wait_s)

    def waits_until(self) -> RetryLater | Parked | None:
        """What a slice comes to when nothing is left of it but tasks that wait; None: they wait for no time."""
        waits = [*self.waits, *self.gate.waits]
        if not waits:
            return None
        now = asyncio.get_running_loop().time()
        ends = [
            max(0.0, fanout.ends_at - now)
            for fanout in self._fanouts.values()
            if fanout.ends_at is not None and fanout.verdict is Verdict.REACHED and fanout.unfinished
        ]
        wait_s = min([*waits, *ends])
        return Parked(wait_s, tuple(self.gate.parked)) if self.gate.parked else RetryLater(wait_s, tuple(self._again))

    async def _count(self, fanout: Fanout, task: PregelExecutableTask) -> None:
        """Let the time of the rest begin, once the quorum is reached. Other branches count as well."""
        reached = fanout.verdict is Verdict.REACHED
        if fanout.rest_s is None or fanout.ends_at is not None or not fanout.unfinished:
            return
        if not reached and not (self._in_branch and fanout.answered):
            return
        call = runs.note_answers(
            self._worker.keys, self._run.run_id, self._fence, step=seam.step_of(task), key=fanout.key,
            needed=fanout.needed, rest_ms=round(fanout.rest_s * 1000), answered=sorted(fanout.answered),
        )  # fmt: skip
        left_ms = await self._worker.store.do(call)
        if left_ms is not None:
            fanout.end_at(asyncio.get_running_loop().time() + left_ms / 1000)

    def _too_late(self, fanout: Fanout, task: PregelExecutableTask) -> _Exhausted:
        """The time of the rest is over."""
        error = CutOff(fanout.told())
        attempt, clock = self._trying.get(task.id) or (self._run.attempts.get(task.id, 0) + 1, Clock())
        if task.id in self._trying and seam.is_sync(task):
            self._worker.abandon(task.name)
        record = self._record(task, attempt, error, clock, GiveUp(exhausted=False))
        return _Exhausted(error, record)

    async def _await_verdict(
        self, fanout: Fanout, task: PregelExecutableTask, error: Exception, record: dict[str, Any]
    ) -> Any:
        """What becomes of a task that failed for good: it is missing, or the run fails, or that cannot be said yet."""
        if not self._in_branch:
            await fanout.decided.wait()
        verdict = Verdict.OPEN if self._in_branch else fanout.verdict
        if verdict is Verdict.REACHED:
            return await self._go_without(task, record)
        if verdict is Verdict.OPEN:
            raise LeftOpen(task.id)
        return self._fail(task, error, record["attempt"])

    # --- one attempt

    async def _within_deadline(
        self, task: PregelExecutableTask, once: seam.Once, policy: NodePolicy, attempt: int
    ) -> Any:
        """One attempt. A plain function that outlives its deadline is abandoned in its thread, fenced off, or, in a
        process that may be killed, ends with it."""
        deadline_s = policy.deadline_s or self._worker.settings.node_deadline_s
        limit, began = TimeLimit(self._worker.attempts_end, deadline_s), time.monotonic()
        try:
            with limit:
                if not self._worker.expendable:
                    with self._worker.attempting(task), self._journal(task):
                        return await once(attempt)
                async with self._foretold(task, attempt, deadline_s):
                    with self._worker.attempting(task), self._journal(task):
                        return await once(attempt)
        except asyncio.CancelledError:
            if seam.is_sync(task):  # its thread goes on, here until the process ends
                self.left_running.append(task.name)
                if self._worker.expendable:
                    self._worker.abandon(task.name)
            raise
        except TimeoutError:
            if not limit.expired:  # the node's own
                raise
            if seam.is_sync(task):
                self._worker.abandon(task.name)
            elapsed = time.monotonic() - began
            raise NodeTimeoutError(task.name, elapsed, kind="run", run_timeout=deadline_s) from None

    def _kept(self) -> Kept:
        worker, saver = self._worker, self._graph.checkpointer
        return Kept(worker.store, worker.keys, self._run, saver.serde)  # type: ignore[union-attr]

    def _journal(self, task: PregelExecutableTask) -> Journal:
        worker = self._worker
        return Journal(worker.keys, self._run.run_id, task.id, self._fence, worker.store, worker.sync_store)

    @asynccontextmanager
    async def _foretold(self, task: PregelExecutableTask, attempt: int, deadline_s: float) -> AsyncIterator[None]:
        """Note what this process, which has one thing in hand, may be killed for: a dead process cannot say it."""
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

    async def _wait(self, task: PregelExecutableTask, decision: TryAgain, attempt: int) -> None:
        spent = self._worker.expendable and self._worker.abandoned  # the attempt before goes on until the process ends
        if spent or (decision.wait_s > MOMENT_S and not seam.forgets(self._graph)):
            self.waits.append(decision.wait_s)
            self._again.append((task.name, attempt))
            raise WaitsForRetry(task.id)
        await asyncio.sleep(decision.wait_s)

    async def _give_up(self, task: PregelExecutableTask, error: Exception, record: dict[str, Any]) -> Any:
        """All attempts are used up: go on without the node where its policy says how, else raise its error."""
        policy, fanout = self._policy(task), self._fanouts.get(task.id)
        for fallback in policy.fallbacks:
            try:
                return await self._replace(task, fallback, error, record)
            except NothingKept:
                continue
            except (GraphBubbleUp, LeaseLost, StoreUnavailable):
                raise
            except Exception as raised:  # noqa: BLE001 - the fallback is the author's, and may raise anything
                told = wire.error_of(raised)
                record = {**record, "decision": f"gave up; its fallback failed: {told['error']}: {told['message']}"}
                raised.__cause__ = raised.__cause__ or error
                error = raised
        if fanout is not None:
            await self._note(record, part=task, is_news=task.id not in self._parts)
            self._parts.append(task.id)
            fanout.fail(task.id)
            raise seam.Afterwards(partial(self._await_verdict, fanout, task, error, record))
        if policy.when_exhausted == "park":
            wait_s = policy.park_s or self._rest_of_run_s()
            await self._note({**record, "decision": "parked"}, again_s=wait_s, new_round=True)
            self._park(task, record, wait_s)
        if policy.when_exhausted == "fail":
            await self._note(record)
            return self._fail(task, error, record["attempt"])
        return await self._go_without(task, record)

    def _rest_of_run_s(self) -> float:
        """As long as the run may wait for an operator: then it is over and a dead letter."""
        if self._run.deadline_at is None:
            return _TEN_YEARS_S
        return max(0.0, (self._run.deadline_at - self._now_ms) / 1000) + 60

    def _fail(self, task: PregelExecutableTask, error: Exception, attempt: int) -> NoReturn:
        if task.name not in self._graph.node_error_handler_map:
            self.failed.append((task.id, task.name, attempt))
        raise error

    async def _go_without(self, task: PregelExecutableTask, record: dict[str, Any]) -> None:
        await seam.stand_in(task, None)
        await self._note_missing(task, record, {"instead": "nothing"})

    async def _replace(
        self, task: PregelExecutableTask, fallback: Any, error: Exception, record: dict[str, Any]
    ) -> None:
        """Put the fallback in the node's place. It has as long as an attempt of the node."""
        deadline_s = self._policy(task).deadline_s or self._worker.settings.node_deadline_s
        how: dict[str, Any] = {"instead": "fallback"}
        async with asyncio.timeout(deadline_s):
            if (stale := stale_of(fallback)) is not None:
                value, age_s = await self._kept().recall(task, stale)
                how = {"instead": "stale", "age_s": round(age_s, 3)}
            else:
                value = await fallback_of(self._graph, task, fallback, error)
            await seam.stand_in(task, value)
        await self._note_missing(task, record, how)

    async def _note_missing(self, task: PregelExecutableTask, record: dict[str, Any], how: dict[str, Any]) -> None:
        """Note what the run does without, for itself, for the nodes that follow and for its answer."""
        missing = missing_of(task, record, how)
        record = {**record, "decision": f"gave up; {how['instead']} in its place"}
        await self._note(record, degraded=missing, is_news=task.id not in self._parts)
        self._degraded.append(missing)

    async def _note(
        self,
        record: dict[str, Any],
        *,
        degraded: dict[str, Any] | None = None,
        part: PregelExecutableTask | None = None,
        again_s: float = 0.0,
        new_round: bool = False,
        is_news: bool = True,
    ) -> None:
        """Note a failed attempt, and with it what follows: the run goes without ``degraded``, ``part`` is not to be
        executed again, or the next attempt is in ``again_s``. ``is_news``: the ledger was not told of it before."""
        call = runs.note_attempt(
            self._worker.keys,
            self._run.run_id,
            self._run.thread_id,
            self._fence,
            record,
            degraded=degraded,
            part_of=None if part is None else seam.step_of(part),
            again_ms=round(again_s * 1000) if again_s > MOMENT_S or new_round else 0,
            new_round=new_round,
        )
        if is_news:
            self._ledger.failed(record)
            self._ledger.flush()
        await self._worker.store.do(call)

    def _record(
        self, task: PregelExecutableTask, attempt: int, error: Exception, clock: Clock, decision: GiveUp | TryAgain
    ) -> dict[str, Any]:
        worker, slice_ = self._worker.worker_id, self._run.slices + 1
        return record_of(task, attempt, error, clock, decision, worker=worker, slice_=slice_)

    def _policy(self, task: PregelExecutableTask) -> NodePolicy:
        return self._policies.get(task.name, _NO_POLICY)
