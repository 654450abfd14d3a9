"""What a wake-up does: claim, take a slice, commit its outcome. Called by `tasks/` on the worker's event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import structlog

from runyard.engine import metrics, webhooks, wire
from runyard.engine.branch import RETURNED, Result, run_branch
from runyard.engine.caps import room_for
from runyard.engine.errors import LeaseLost, Sealed
from runyard.engine.leases import Held
from runyard.engine.outcomes import Tell
from runyard.engine.record import ids_of
from runyard.engine.run import (
    REVIVABLE,
    Advanced,
    Cancelled,
    Dispatched,
    Failed,
    Finished,
    Interrupted,
    Outcome,
    Parked,
    Phase,
    RetryLater,
    Run,
    ThreadStatus,
    TimedOut,
    Wake,
)
from runyard.engine.slice import Stoppable, run_slice, stopped
from runyard.engine.steps import Steps
from runyard.engine.store import results, runs
from runyard.engine.waiting import is_looked_at
from runyard.engine.worker import Worker

log = structlog.get_logger(__name__)

#: In what a worker keeps of its last threads: what they show.
_SHOWN = "shown"
#: How long a wake-up waits in a process that has used too much memory before it is passed on, in seconds.
ROOM_WITHIN_S = 5.0


async def advance(worker: Worker, run_id: str, nonce: str, tell: Tell = lambda *_: None) -> list[Wake]:
    """Take a run one slice forward, this one or one whose turn it is rather; answers the wake-ups to send.

    ``tell`` is told which run it was and what that came to, unless it was nothing.

    A wake-up for a run that somebody else has, or that is over, does nothing. A lost lease ends silently: whoever has
    it now goes on. When the store goes away nothing is committed, and recovery brings the run back.
    """
    await worker.pace.turn()
    try:
        if await _has_room(worker):
            return await _advanced(worker, run_id, nonce, tell)
        return await _passed_on(worker, run_id)
    finally:
        worker.pace.over()


async def _advanced(worker: Worker, run_id: str, nonce: str, tell: Tell) -> list[Wake]:
    lease_ms = worker.settings.lease_ms
    claim = await worker.store.do(
        runs.claim(worker.keys, run_id, owner=worker.worker_id, nonce=nonce, lease_ms=lease_ms)
    )
    if claim is None:
        return []
    run_id = claim.run.run_id  # perhaps another's: a wake-up only says that there is something to do
    worker.took(claim.run.queue, claim.woken_ms, claim.now_ms)
    _count_wakeup(claim, claim.run.queue)
    log.info("run.claimed", **ids_of(claim.run), slice=claim.run.slices + 1, came_from=claim.came_from or "new")
    with worker.keeper.holding(run_id, claim.fence) as held, worker.slicing(claim.run, "") as note:
        try:
            steps = worker.steps(claim.run, claim.fence)
            outcome = await _outcome(worker, claim, held, steps)
            came_to = type(outcome).__name__.lower()
            metrics.inc("runyard_slices_total", claim.run.graph_id, came_to)
            if isinstance(outcome, (Advanced, Dispatched, RetryLater)):  # the others are told with what they change
                log.info("run.slice_ended", **ids_of(claim.run), outcome=came_to)
            wakes = await commit(worker, claim.run, steps, outcome)
            tell(claim.run, outcome)
            note(outcome)
            return wakes
        except LeaseLost:
            log.warning("run.lease_lost", run_id=run_id, token=claim.fence.value)
            return []


def _count_wakeup(claim: runs.Claim | runs.BranchClaim, queue: str) -> None:
    if claim.woken_ms:
        metrics.observe("runyard_wakeup_seconds", (claim.now_ms - claim.woken_ms) / 1000, queue)


async def _outcome(worker: Worker, claim: runs.Claim, held: Held, steps: Steps) -> Outcome:
    try:
        with Stoppable(held):
            async with room_for(worker.shares, worker.caps, claim.run, claim.fence.value, None) as parked:
                return parked or await run_slice(worker, claim, held, steps)
    except asyncio.CancelledError:  # stopped before or after the graph had the word
        if held.stopped is None:
            raise
        return stopped(held, claim.run)


async def advance_branch(
    worker: Worker, run_id: str, name: str, nonce: str, tell: Tell = lambda *_: None
) -> list[Wake]:
    """Run one branch of a dispatched superstep; answers the run's wake-up when it was the last. ``tell`` as above."""
    await worker.pace.turn()
    try:
        if await _has_room(worker):
            return await _branch_advanced(worker, run_id, name, nonce, tell)
        return await _branch_passed_on(worker, run_id, name)
    finally:
        worker.pace.over()


async def _branch_advanced(worker: Worker, run_id: str, name: str, nonce: str, tell: Tell) -> list[Wake]:
    call = runs.claim_branch(worker.keys, run_id, name, nonce=nonce, lease_ms=worker.settings.lease_ms)
    claim = await worker.store.do(call)
    if claim is None:
        return []
    worker.took(claim.branch.queue, claim.woken_ms, claim.now_ms)
    _count_wakeup(claim, claim.branch.queue)
    metrics.inc("runyard_slices_total", claim.run.graph_id, "branch")
    with worker.keeper.holding(run_id, claim.fence, branch=name) as held, worker.slicing(claim.run, name) as note:
        try:
            with Stoppable(held):
                async with room_for(worker.shares, worker.caps, claim.run, claim.fence.value, name) as parked:
                    result = parked or await run_branch(worker, claim, held)
            wakes = await _commit_branch(worker, claim, result)
            tell(claim.run, result)
            note(result)
            return wakes
        except LeaseLost:
            log.warning("branch.lease_lost", run_id=run_id, branch=name, token=claim.fence.value)
            return []


async def _has_room(worker: Worker) -> bool:
    """Whether this process takes a run now, or can after a while: a message that goes round costs more than one that
    waits. One that was told to stop while it waited takes none."""
    ends = asyncio.get_running_loop().time() + ROOM_WITHIN_S
    while not worker.has_room():
        if worker.draining or asyncio.get_running_loop().time() > ends:
            return False
        await asyncio.sleep(0.25)
    return not worker.draining


async def _passed_on(worker: Worker, run_id: str) -> list[Wake]:
    """A wake-up that came as this process was told to stop, for another one: recovery would take seconds to miss it."""
    run = await worker.store.do(runs.get(worker.keys, run_id))
    return [wake_of(run)] if run is not None and run.phase is Phase.WAITING else []


async def _branch_passed_on(worker: Worker, run_id: str, name: str) -> list[Wake]:
    queue = await worker.store.do(runs.queue_of_branch(worker.keys, run_id, name))
    return [Wake(run_id=run_id, queue=queue, branch=name)] if queue else []


async def _commit_branch(worker: Worker, claim: runs.BranchClaim, result: Result) -> list[Wake]:
    run, name = claim.run, claim.branch.name
    if result == RETURNED:
        queue = await worker.store.do(runs.return_branch(worker.keys, run.run_id, name, claim.fence))
        return [wake_of_branch(run, name, queue, claim.branch.nodes)]
    if isinstance(result, Parked):
        wait_ms = round(result.wait_s * 1000)
        queue = await worker.store.do(
            runs.park_branch(worker.keys, run.run_id, name, claim.fence, wait_ms, result.parked)
        )
        return [wake_of_branch(run, name, queue, claim.branch.nodes)] if queue else []
    ended = runs.end_branch(worker.keys, run.run_id, name, claim.fence, result)  # type: ignore[arg-type]
    left, queue = await worker.store.do(ended)
    return [wake_of(run, queue)] if left == 0 else []


async def commit(worker: Worker, run: Run, steps: Steps, outcome: Outcome) -> list[Wake]:  # noqa: C901, PLR0911, PLR0912 - one each
    """Apply an outcome: one script, under the lease, which saves what a run that ends has not saved yet. Answers the
    wake-ups that follow from it. Raises LeaseLost."""
    fence = steps.fence
    if isinstance(outcome, Advanced | Dispatched | RetryLater | Parked):
        await steps.settle()
    match outcome:
        case Advanced():
            return await _give_back(worker, run, steps)
        case Dispatched(branches, cut_at_ms):
            handed = runs.dispatch(worker.keys, run.run_id, fence, branches, cut_at_ms=cut_at_ms)
            if await worker.store.do(handed) == "cancelling":
                return await _end_cancelled(worker, run, steps)
            return [wake_of_branch(run, branch.name, branch.queue, branch.nodes) for branch in branches]
        case RetryLater(wait_s):
            waited = runs.delay(worker.keys, run.run_id, fence, round(wait_s * 1000))
            if await worker.store.do(waited) == "cancelling":
                return await _end_cancelled(worker, run, steps)
            return []  # recovery wakes it when the time has come
        case Parked(wait_s, parked):
            for entry in parked:
                metrics.inc("runyard_parks_total", run.graph_id, str(entry["why"]))
            return await _park(worker, run, steps, wait_s, parked)
        case TimedOut(values):
            known = wire.encode(values) if values is not None else b""
            return await _end(worker, run, steps, Phase.TIMED_OUT, values=known, error=runs.TIMED_OUT)
        case Finished(values):
            return await _end(worker, run, steps, Phase.SUCCEEDED, values=wire.encode(values))
        case Interrupted(values, interrupts):
            return await _end(worker, run, steps, Phase.PAUSED, values=wire.encode(values), interrupts=interrupts)
        case Failed(error, values, cause):
            known = wire.encode(values) if values is not None else b""
            return await _end(worker, run, steps, Phase.FAILED, values=known, error=error, cause=cause)
        case Cancelled(action, resumable, values):
            return await _end_cancelled(worker, dataclasses.replace(run, cancel=run.cancel or action), steps,
                                        resumable=resumable, values=values)  # fmt: skip


async def _give_back(worker: Worker, run: Run, steps: Steps) -> list[Wake]:
    if await worker.store.do(runs.give_back(worker.keys, run.run_id, steps.fence)) == "cancelling":
        return await _end_cancelled(worker, run, steps)
    return [wake_of(run)]


async def _park(
    worker: Worker, run: Run, steps: Steps, wait_s: float, parked: tuple[dict[str, Any], ...]
) -> list[Wake]:
    match await worker.store.do(runs.park(worker.keys, run.run_id, steps.fence, round(wait_s * 1000), parked)):
        case "cancelling":
            return await _end_cancelled(worker, run, steps)
        case "waiting":
            return [wake_of(run)]
    log.info("run.parked", **ids_of(run), waits_for=sorted({p["name"] for p in parked}))
    return []  # whoever makes room wakes it


async def _end_cancelled(
    worker: Worker, run: Run, steps: Steps, *, resumable: bool = True, values: object = None
) -> list[Wake]:
    current = await worker.store.do(runs.get(worker.keys, run.run_id))
    action = (current.cancel if current else None) or run.cancel or "interrupt"
    left: ThreadStatus = "interrupted" if resumable else "idle"
    known = wire.encode(values) if values is not None else b""
    rolled_back = action == "rollback"
    wakes = await _end(worker, run, steps, Phase.CANCELLED, values=known, thread_status=left, hold_thread=rolled_back)
    if rolled_back:
        await worker.saver.adelete_for_runs([run.run_id])
        following = await worker.store.do(runs.delete(worker.keys, run.run_id, run.thread_id))
        wakes = [Wake(run_id=next_id, queue=queue) for next_id, queue in following]
    return wakes


async def _end(
    worker: Worker,
    run: Run,
    steps: Steps,
    phase: Phase,
    *,
    values: bytes = b"",
    error: Mapping[str, object] | None = None,
    cause: BaseException | None = None,
    interrupts: dict[str, list[dict[str, object]]] | None = None,
    thread_status: ThreadStatus | None = None,
    hold_thread: bool = False,
) -> list[Wake]:
    told = {"error": error["error"], "message": error["message"]} if error else None
    kept = await _kept(worker, run, phase, values)
    call = runs.end(
        worker.keys,
        run,
        steps.fence,
        phase,
        events_ttl_ms=worker.settings.keep_events_s * 1000,
        thread_status=thread_status,
        error=error,
        values=values,
        interrupts=interrupts,
        report=result_of(values, told, interrupts) if values or phase is not Phase.CANCELLED else b"",
        hold_thread=hold_thread,
        asks=is_looked_at(worker.notify, worker.waiting, run, interrupts or {}),
        parts=await steps.rest(),
        kept=kept,
    )
    following = await worker.store.do(call)
    if kept is not None:
        shown = results.Shown(run.run_id, values, kept.number)
        worker.recent.put((_SHOWN, run.thread_id), shown, len(values))
    metrics.inc("runyard_run_ends_total", run.graph_id, str(phase))
    if run.started_at is not None:
        metrics.observe("runyard_run_seconds", time.time() - run.started_at / 1000, run.graph_id)
    log.info("run.ended", **ids_of(run), phase=str(phase), **({"error": told} if told else {}))
    if phase in REVIVABLE and worker.on_death:
        await _tell_of_death(worker, run, error or {}, cause)
    if run.temporary and phase not in REVIVABLE:  # a dead letter is nothing without its checkpoints
        await worker.saver.adelete_thread(run.thread_id)
    wakes = [Wake(run_id=next_id, queue=queue) for next_id, queue in following]
    if run.request.webhook and not hold_thread:
        wakes.append(webhooks.wake_of(run.run_id, run.queue))
    return wakes


async def _kept(worker: Worker, run: Run, phase: Phase, values: bytes) -> results.Kept | None:
    """How its thread keeps what a run came to, where that is large; None: the `end` tells it itself."""
    if len(values) < results.LARGE or run.temporary or phase not in (Phase.SUCCEEDED, Phase.PAUSED):
        return None
    before = worker.recent.get((_SHOWN, run.thread_id))
    try:
        if before is None or before.mark != await worker.store.do(results.mark(worker.keys, run.thread_id)):
            before = await worker.store.do(results.shown(worker.keys, run.thread_id))
    except Sealed:  # a key that is missing costs what was before, and not this run: the script keeps that as it is
        return results.Kept()
    return results.kept(worker.keys, run.thread_id, values, before)


async def _tell_of_death(worker: Worker, run: Run, error: Mapping[str, object], cause: BaseException | None) -> None:
    """Tell of a run as it ended: this slice may have been its first, and noted what it was claimed without."""
    try:
        ended = await worker.store.do(runs.get(worker.keys, run.run_id)) or run
        for tell in worker.on_death:
            tell(ended, error, cause)
    except Exception:  # the run has ended, and its wake-ups must go out, whoever could not be told
        log.exception("run.death_not_told", run_id=run.run_id)


def result_of(values: bytes, error: object, interrupts: dict[str, list[dict[str, object]]] | None) -> bytes:
    """What waiting clients are answered, as JSON: the values, with what the graph asks; or the error."""
    if error is not None:
        return wire.encode({"__error__": error})
    return wire.with_asked(values or b"{}", [item for items in (interrupts or {}).values() for item in items])


def wake_of(run: Run, queue: str | None = None) -> Wake:
    return Wake(run_id=run.run_id, queue=queue or run.queue, graph_id=run.graph_id, label=run.graph_id)


def wake_of_branch(run: Run, name: str, queue: str, nodes: tuple[str, ...]) -> Wake:
    label = f"{run.graph_id}.{'+'.join(nodes)}"
    return Wake(run_id=run.run_id, queue=queue, branch=name, graph_id=run.graph_id, label=label)
