"""The keeper of leases: renews what a process has in hand, and lets go of what it has lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from runyard.engine.leases import Held, LeaseKeeper, Stop
from runyard.engine.presence import Presence
from runyard.engine.run import Run
from runyard.engine.store import recovery, runs
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually, eventually_async
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, partitions=4)
    yield made
    made.close()


@pytest.fixture
def keeper(bench: Bench) -> LeaseKeeper:
    """Not started: a test renews by hand."""
    return LeaseKeeper(bench.store, bench.keys, lease_ms=60_000)


@asynccontextmanager
async def working(keeper: LeaseKeeper, bench: Bench, run: Run) -> AsyncIterator[Held]:
    """A worker with the run in hand, in the middle of a node that never ends."""
    with keeper.holding(run.run_id, bench.claimed(run).fence) as held:
        held.task = asyncio.create_task(asyncio.Event().wait())  # type: ignore[assignment]
        try:
            yield held
        finally:
            held.task.cancel()
            with suppress(asyncio.CancelledError):
                await held.task


async def stopped(held: Held) -> Stop | None:
    assert held.task is not None
    task = held.task
    await eventually_async(lambda: asyncio.sleep(0, task.done()), what="the work was cancelled")
    return held.stopped


def lease_ends(bench: Bench, run: Run) -> float | None:
    return bench.client.zscore(bench.keys.of_run(run.run_id).leases, run.run_id)


async def test_everything_in_hand_is_renewed_in_every_partition(bench: Bench, keeper: LeaseKeeper) -> None:
    all_runs = [bench.create() for _ in range(20)]
    with ExitStack() as held:
        for run in all_runs:
            held.enter_context(keeper.holding(run.run_id, bench.claimed(run).fence))
        for at in bench.keys.all():
            bench.age_all(at.leases)
        aged = [lease_ends(bench, run) or 0 for run in all_runs]
        keeper.renew()
        renewed = [lease_ends(bench, run) or 0 for run in all_runs]
        assert all(after > before + 3_000_000 for before, after in zip(aged, renewed, strict=True))
        assert len({bench.keys.of_run(run.run_id) for run in all_runs}) > 1, "more than one partition"
    assert keeper.in_hand() == []


async def test_work_whose_lease_was_taken_over_is_cancelled_as_lost(bench: Bench, keeper: LeaseKeeper) -> None:
    run = bench.create()
    async with working(keeper, bench, run) as held:
        at = bench.keys.of_run(run.run_id)
        bench.age_all(at.leases)
        bench.do(recovery.reap(at, most=10))
        bench.claimed(run)
        keeper.renew()
        assert await stopped(held) is Stop.LOST


async def test_work_whose_run_was_deleted_is_cancelled_as_lost(bench: Bench, keeper: LeaseKeeper) -> None:
    run = bench.create()
    async with working(keeper, bench, run) as held:
        bench.delete(run)
        keeper.renew()
        assert await stopped(held) is Stop.LOST


async def test_work_whose_run_is_to_be_cancelled_keeps_its_lease_to_end_it(bench: Bench, keeper: LeaseKeeper) -> None:
    run = bench.create()
    async with working(keeper, bench, run) as held:
        bench.cancel(run)
        keeper.renew()
        assert await stopped(held) is Stop.CANCELLED
        assert lease_ends(bench, run)


async def test_a_branch_loses_its_lease_when_its_run_is_cancelled(bench: Bench, keeper: LeaseKeeper) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "cpu")
    claim = bench.claim_branch(run, "b0")
    assert claim is not None
    with keeper.holding(run.run_id, claim.fence, branch="b0") as held:
        keeper.renew()
        assert held.stopped is None
        bench.cancel(run)
        keeper.renew()
        assert held.stopped is Stop.LOST


async def test_a_lost_lease_overrules_every_other_reason_to_stop_and_none_overrules_it(
    bench: Bench, keeper: LeaseKeeper
) -> None:
    async with working(keeper, bench, bench.create()) as held:
        for said, then in [
            (Stop.SHUTDOWN, Stop.SHUTDOWN),
            (Stop.CANCELLED, Stop.SHUTDOWN),
            (Stop.LOST, Stop.LOST),
            (Stop.CANCELLED, Stop.LOST),
        ]:
            held.stop(said)
            assert held.stopped is then


async def test_a_started_keeper_hears_of_a_cancel_at_once_and_renews_by_itself(bench: Bench) -> None:
    keeper = LeaseKeeper(bench.store, bench.keys, lease_ms=60_000)
    keeper.start()
    run = bench.create()
    try:
        async with working(keeper, bench, run) as held:
            await eventually_async(lambda: asyncio.sleep(0, bench.client.pubsub_numsub(bench.keys.control)[0][1] == 1))
            bench.cancel(run)
            assert await stopped(held) is Stop.CANCELLED  # its next renewal is fifteen seconds away
    finally:
        keeper.stop()


async def test_a_node_that_blocks_the_event_loop_does_not_cost_the_lease(bench: Bench) -> None:
    keeper = LeaseKeeper(bench.store, bench.keys, lease_ms=80)
    keeper.start()
    run = bench.create()
    try:
        with keeper.holding(run.run_id, bench.claimed(run).fence) as held:
            bench.age_all(bench.keys.of_run(run.run_id).leases)
            before = lease_ends(bench, run) or 0
            eventually(lambda: (lease_ends(bench, run) or 0) > before)  # this test has the loop all the while
            assert held.stopped is None
    finally:
        keeper.stop()


@pytest.mark.parametrize("trouble", ["away", "refusing", "puzzling"])
async def test_the_keeper_and_the_sign_of_life_outlive_trouble_with_the_store(tmp_path: Path, trouble: str) -> None:
    with EmbeddedServer(tmp_path / "own") as server:
        bench = Bench(server.url, partitions=4)
        run = bench.create()
        claim = bench.claimed(run)
        key = bench.keys.of_run(run.run_id).leases
        keeper = LeaseKeeper(bench.store, bench.keys, lease_ms=100)
        presence = Presence(bench.store, bench.keys, "w", "default", lambda: 1)
        with keeper.holding(run.run_id, claim.fence) as held:
            keeper.start()
            presence.start()
            leases = bench.client.zrange(key, 0, -1, withscores=True)
            if trouble == "away":
                server.kill()
                await asyncio.to_thread(server.restart)
            elif trouble == "refusing":
                bench.client.config_set("min-replicas-to-write", 1)
                failed = bench.client.info("stats")["total_error_replies"]
                eventually(lambda: bench.client.info("stats")["total_error_replies"] > failed + 2)
                bench.client.config_set("min-replicas-to-write", 0)
            else:  # a reply that nobody expects
                for name in (key, bench.keys.workers):
                    bench.client.delete(name)
                    bench.client.set(name, "not a sorted set")
                failed = bench.client.info("stats")["total_error_replies"]
                eventually(lambda: bench.client.info("stats")["total_error_replies"] > failed + 2)
                bench.client.delete(key, bench.keys.workers)
            bench.client.zadd(key, {leases[0][0]: 1})
            bench.client.delete(bench.keys.workers)
            eventually(lambda: (lease_ends(bench, run) or 0) > 1, what="the lease is renewed again")
            eventually(lambda: bench.client.zscore(bench.keys.workers, "w"), what="the worker is on the list again")
            assert held.stopped is None
        keeper.stop()
        presence.stop()
        assert bench.client.zscore(bench.keys.workers, "w") is None
        bench.close()


def test_a_worker_tells_how_far_it_has_consumed_its_queues(bench: Bench) -> None:
    presence = Presence(bench.store, bench.keys, "w", "default,cpu", lambda: 7)
    for woken_ms in (5, 9, 3):
        presence.took("default", woken_ms, 20)
    presence.took("cpu", 0, 30)  # a wake-up of unknown age tells nothing
    presence.beat()
    assert bench.do(recovery.consumed(bench.keys)) == {"default": 9}
    [worker] = bench.service.workers()
    assert (worker["id"], worker["in_hand"], worker["took_at"]) == ("w", "7", "30")


def test_a_worker_that_is_silent_for_seconds_is_gone_and_remembered_for_a_minute(bench: Bench) -> None:
    Presence(bench.store, bench.keys, "w", "default", lambda: 0).beat()
    bench.backdate(bench.keys.workers, "w", by_ms=recovery.WORKER_GONE_MS + 1)
    assert bench.service.workers() == []
    assert [worker["id"] for worker in bench.service.workers(gone=True)] == ["w"]
    Presence(bench.store, bench.keys, "other", "default", lambda: 0).beat()
    bench.backdate(bench.keys.workers, "w", by_ms=recovery.WORKER_TTL_MS)
    Presence(bench.store, bench.keys, "other", "default", lambda: 0).beat()
    assert bench.service.workers(gone=True) == []


def test_renewing_answers_for_each_lease_in_its_place(bench: Bench) -> None:
    thread = bench.record().thread_id
    lost, held, cancelled = bench.create(thread), bench.create(), bench.create()
    fences = {one.run_id: bench.claimed(one).fence for one in (lost, held, cancelled)}
    bench.delete(lost)
    bench.cancel(cancelled)
    answers = {
        run.run_id: bench.do(
            runs.renew(
                bench.keys, bench.keys.of_run(run.run_id).number, [(run.run_id, fences[run.run_id])], lease_ms=1000
            )
        )
        for run in (lost, held, cancelled)
    }
    assert list(answers.values()) == [[0], [1], [2]]
