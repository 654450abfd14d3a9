"""A slice: some supersteps of a run, taken under one lease, and what they came to.

claim -> load the graph -> supersteps -> outcome. The outcome is a value; `commit` turns it into one script.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from langgraph.errors import GraphDrained, GraphInterrupt
from langgraph.runtime import RunControl
from langgraph.types import PregelExecutableTask

from runyard.engine import redact, seam, wire
from runyard.engine.budget import Reached
from runyard.engine.callbacks import Callbacks
from runyard.engine.errors import EngineError, LeaseLost, StoreUnavailable
from runyard.engine.feed import Feed, modes_of
from runyard.engine.gate import Parks
from runyard.engine.given import given
from runyard.engine.leases import Held, Stop
from runyard.engine.node import NodeRunner, WaitsForRetry
from runyard.engine.prepared import Opened, Prepared, begun_in, prepare, stop_before
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
from runyard.engine.saver import SliceSession
from runyard.engine.steps import Steps
from runyard.engine.store import runs
from runyard.engine.worker import Worker

#: So many parts of a superstep for each worker that is there for them.
PARTS_EACH = 4
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
    answered = [task_id for result in results for task_id in result.get("interrupted", ())]
    async with Opened() as opened:
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


class _Slice:
    """One stretch of ``astream`` under a lease."""

    __slots__ = (
        "_answered", "_came_from", "_control", "_feed", "_foreign", "_forgets", "_held", "_may_send_away", "_nodes",
        "_nodes_control", "_now_ms", "_one_step", "_prepared", "_run", "_steps", "_used_up_at", "_worker",
    )  # fmt: skip

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
            self._steps,
            now_ms=claim.now_ms,
        )
        self._forgets = seam.forgets(prepared.graph)
        # Asked of every task about each of its siblings, so of most graphs it is better known beforehand.
        self._may_send_away = any(policy.may_leave_home for policy in prepared.policies.values())
        self._one_step = worker.settings.quantum_s == 0 and not self._forgets
        #: When the slice is used up, on the process's clock, if it ever is.
        self._used_up_at = self._quantum_ends_at()

    async def run(self, answered: Iterable[str]) -> Outcome:
        self._answered = {task_id: self._prepared.interrupts.get(task_id, ()) for task_id in answered}
        runner = self._runner()
        in_order = self._came_from not in ("", "crash")  # the last slice has told all there was to tell
        # Values are told when the next superstep is under way: a crash may have lost those of the checkpoint, but none
        # of before.
        stale = in_order or self._prepared.told_nothing
        self._feed = Feed(self._run.request, self._steps.tell, stale=stale, repeats=in_order, repeated=runner.restored)
        self._begin_deadline()
        with DrainedBy(self._worker, self._control, self._nodes_control):
            try:
                outcome = await self._consume(runner)
            finally:
                self._worker.runs_end.remove(self._held)
                self._feed.close()
                await runner.close()
                self._prepared.ledger.close()
                if self._prepared.meter is not None:
                    await self._prepared.meter.close()
        if self._nodes.left_running and isinstance(outcome, Cancelled | TimedOut):
            names = ", ".join(sorted({*self._nodes.left_running}))
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

    def _begin_deadline(self) -> None:
        """Stop the slice when the run's own deadline passes. Should this loop be blocked, recovery does it."""
        if self._run.deadline_at is not None:
            left_s = max(0.0, (self._run.deadline_at - self._now_ms) / 1000)
            self._worker.runs_end.add(self._held, left_s)

    def _quantum_ends_at(self) -> float | None:
        quantum_s = self._worker.settings.quantum_s
        in_one = not quantum_s or self._forgets or self._run.request.durability == "exit"
        return None if in_one else time.monotonic() + quantum_s

    def _drain_if_used_up(self) -> None:
        """Asked at both edges of a superstep: there is one part of the stream at its end at least, unless it wrote
        nothing."""
        if self._used_up_at is not None and time.monotonic() >= self._used_up_at:
            self._control.request_drain("quantum")

    async def _consume(self, runner: seam.TaskRunner) -> Outcome:  # noqa: C901, PLR0911 - one outcome each
        prepared = self._prepared
        try:
            async for part in stream(prepared, self._run, given(self._run), runner, self._control):
                self._feed.take_part(part)
                self._drain_if_used_up()
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
        if task.name != seam.START:
            if self._one_step:
                self._control.request_drain("one superstep")
            self._drain_if_used_up()
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
) -> AsyncIterator[Any]:
    """LangGraph's stream of a run, its parts as they are. It is given the very config: a run that waits is to keep one
    and not two."""
    request = run.request
    blocks = PROTOCOL in request.stream_mode
    may_stop = seam.may_stop(prepared.graph, request.interrupt_before, request.interrupt_after)
    config = prepared.config
    config["configurable"] |= {seam.RUNNER_SUBMIT: runner, seam.CONTENT_BLOCKS: blocks}
    callbacks: list[Any] = [prepared.meter] if prepared.meter else []  # first: what it refuses is not begun
    callbacks += [Callbacks(prepared.ledger)] if prepared.ledger.is_on else []
    config["callbacks"] = callbacks
    as_events = "events" in request.stream_mode
    if as_events:
        config["run_id"] = UUID(run.run_id)  # clients look for the root by the run's id
    begin: Any = partial(prepared.graph.astream_events, version="v2") if as_events else prepared.graph.astream
    parts: AsyncIterator[Any] = begin(
        given_,
        config,
        context=request.context,
        stream_mode=modes_of(request, may_stop=may_stop),
        interrupt_before=request.interrupt_before,
        interrupt_after=request.interrupt_after,
        durability="exit" if request.durability == "exit" else "sync",
        control=control,
        subgraphs=request.stream_subgraphs,
        **({"version": "v2"} if blocks else {}),
    )
    return seam.with_events(parts, nested=request.stream_subgraphs) if as_events else parts


class DrainedBy:
    """Let the worker's end stop the slice at a superstep edge, and what its nodes call at edges of theirs, as long as
    the block lasts."""

    __slots__ = ("_controls", "_worker")

    def __init__(self, worker: Worker, control: RunControl, nodes_control: RunControl) -> None:
        self._worker, self._controls = worker, (control, nodes_control)

    def __enter__(self) -> None:
        self._worker.controls.update(self._controls)
        if self._worker.draining:
            for control in self._controls:
                control.request_drain("shutdown")

    def __exit__(self, *_: object) -> None:
        self._worker.controls.difference_update(self._controls)


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
