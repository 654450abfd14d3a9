"""Recovery: what is due goes on, what was lost is found, what was cut off is finished, and one process leads."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runyard.engine.doom import note_death
from runyard.engine.recovery import _BATCH, OFFICE_S, Recovery
from runyard.engine.run import Phase, Run, RunRequest
from runyard.engine.saver import SliceSession
from runyard.engine.store import recovery, runs
from runyard.engine.store.client import Call
from runyard.engine.store.scripts import script
from tests.support.checkpoints import at as place_at, put
from tests.support.eventually import eventually
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    yield made
    made.close()


def woken_by(sweeper: Recovery) -> list[tuple[str, str | None]]:
    return [(wake.run_id, wake.branch) for wake in sweeper.sweep()]


def consumed(bench: Bench, queue: str, ms: int) -> None:
    bench.do(Call(script("note_consumed"), (bench.keys.queues,), (queue, ms)))


def waiting(bench: Bench, *, age_s: float, queue: str = "default") -> Run:
    run = bench.create(queue=queue)
    bench.backdate(bench.at.waiting, run.run_id, by_ms=round(age_s * 1000))
    return run


def now_ms(bench: Bench) -> int:
    seconds, micros = bench.client.time()
    return seconds * 1000 + micros // 1000


def test_where_there_is_nothing_to_do_one_script_for_each_partition_sees_so(bench: Bench) -> None:
    bench.create()  # waits, but is too young to be lost
    bench.claimed(bench.create())
    bench.create(delay_ms=60_000)
    sweeper = bench.recovery()
    sweeper.sweep()
    bench.client.config_resetstat()
    sweeper.sweep()
    assert bench.client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1 + bench.keys.partitions


# --- due


def test_a_delayed_run_is_promoted_when_its_time_has_come_and_not_before(bench: Bench) -> None:
    run = bench.create(delay_ms=60_000)
    sweeper = bench.recovery()
    assert woken_by(sweeper) == []
    bench.backdate(bench.at.due, run.run_id)
    assert woken_by(sweeper) == [(run.run_id, None)]
    assert bench.phase(run) is Phase.WAITING
    assert bench.service.get_thread(run.thread_id).active == run.run_id


def test_a_delayed_run_whose_thread_is_taken_queues_behind_those_that_came_before_its_time(bench: Bench) -> None:
    delayed = bench.create(delay_ms=60_000)
    first, second = bench.create(delayed.thread_id), bench.create(delayed.thread_id)
    bench.backdate(bench.at.due, delayed.run_id)
    assert woken_by(bench.recovery()) == []
    assert bench.phase(delayed) is Phase.QUEUED
    assert bench.end(first, bench.claimed(first).fence) == [(second.run_id, "default")]
    assert bench.end(second, bench.claimed(second).fence) == [(delayed.run_id, "default")]


# --- expired leases


def test_a_run_whose_lease_has_expired_is_woken_and_its_crashes_are_counted(bench: Bench) -> None:
    run, sweeper = bench.create(), bench.recovery()
    for crashes in (1, 2):
        bench.claimed(run)
        assert woken_by(sweeper) == []
        bench.backdate(bench.at.leases, run.run_id)
        assert woken_by(sweeper) == [(run.run_id, None)]
        found = bench.get(run)
        assert found is not None
        assert (found.phase, found.crashes, found.owner) == (Phase.WAITING, crashes, None)
    assert bench.claimed(run).came_from == "crash"


def test_a_branch_whose_lease_has_expired_is_woken_and_counts_as_a_crash_of_the_run(bench: Bench) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "cpu", "gpu")
    bench.claim_branch(run, "b1")
    bench.backdate(bench.at.leases, f"{run.run_id}/b1")
    [wake] = bench.recovery().sweep()
    assert (wake.run_id, wake.branch, wake.queue) == (run.run_id, "b1", "gpu")
    found = bench.get(run)
    assert found is not None
    assert (found.phase, found.crashes) == (Phase.DISPATCHED, 1)
    assert bench.claim_branch(run, "b1")


class Poisoned:
    """A run, or a branch of it, whose workers die one after the other, and what each had saved before."""

    def __init__(self, bench: Bench, branch: str | None = None) -> None:
        self.bench, self.branch, self.run = bench, branch, bench.create()
        self.sweeper = bench.recovery()
        if branch:
            bench.dispatch(self.run, bench.claimed(self.run).fence, "cpu", "cpu")

    def die(self, *saved: tuple[str, int], timed: bool = False) -> int:
        """Let a worker save checkpoints (namespace, step), and die; answers the run's count of crashes."""
        bench, run_id = self.bench, self.run.run_id
        claim = bench.claim_branch(run_id, self.branch) if self.branch else bench.claim(run_id)
        assert claim is not None
        run_key = bench.keys.of_run(run_id).run(run_id)
        session = SliceSession(fence=claim.fence, run_key=run_key, run_id=run_id)
        for namespace, step in saved:
            put(bench.service.saver.bound(session), place_at(self.run.thread_id, namespace=namespace), {}, step=step)
        if timed:
            dead = subprocess.Popen(["true"])
            dead.wait()
            doom = {"host": socket.gethostname(), "pid": dead.pid, "token": claim.fence.value, "nodes": []}
            bench.do(runs.foretell(bench.keys, run_id, claim.fence, doom))
            assert note_death(bench.store, bench.keys, run_id, self.branch, timed=True)
        bench.backdate(bench.at.leases, runs.member_of(run_id, self.branch))
        assert woken_by(self.sweeper) == [(run_id, self.branch)]
        found = bench.get(self.run)
        assert found is not None
        return found.crashes


def test_workers_that_die_at_one_place_are_counted_and_progress_begins_anew(bench: Bench) -> None:
    poisoned = Poisoned(bench)
    assert [poisoned.die(), poisoned.die()] == [1, 2]
    assert poisoned.die(("", -1), ("", 0)) == 1
    assert [poisoned.die(), poisoned.die()] == [2, 3]
    assert [poisoned.die(("", step)) for step in range(1, 5)] == [1, 1, 1, 1]


@pytest.mark.parametrize("branch", [None, "b1"])
def test_a_graph_within_a_graph_that_comes_further_is_progress_and_one_that_begins_anew_is_not(
    bench: Bench, branch: str | None
) -> None:
    poisoned = Poisoned(bench, branch)
    assert poisoned.die(("team:1", -1), ("team:1", 0)) == 1
    assert poisoned.die(("team:1", 1)) == 1
    assert poisoned.die(("team:1|agent:2", -1)) == 1
    assert poisoned.die(("team:1|agent:2", 0)) == 1
    assert poisoned.die(("team:1|agent:3", 0)) == 2
    assert poisoned.die(("team:1", -1), ("team:1", 0), ("team:1", 1)) == 3


@pytest.mark.parametrize("branch", [None, "b0"])
def test_a_death_for_a_deadline_is_no_crash_wherever_the_run_is(bench: Bench, branch: str | None) -> None:
    poisoned = Poisoned(bench, branch)
    assert poisoned.die(timed=True) == 0
    assert poisoned.die() == 1
    assert poisoned.die(("team:1", 3), timed=True) == 1
    assert [poisoned.die(), poisoned.die()] == [1, 2]


def test_a_dispatched_run_all_of_whose_branches_were_lost_is_brought_back_branch_by_branch(bench: Bench) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "cpu", "gpu", "cpu")
    bench.claim_branch(run, "b0")  # its worker dies; the messages of the others are lost, and nobody ever took any
    bench.age_all(bench.at.leases)
    bench.age_all(bench.at.waiting)
    sweeper = bench.recovery(depth=lambda _: 0)
    found = [wake for _ in range(2) for wake in woken_by(sweeper)]
    assert sorted(found) == [(run.run_id, name) for name in ("b0", "b1", "b2")]


# --- lost wake-ups


def test_a_wake_up_is_lost_when_its_queue_has_consumed_a_clearly_newer_one(bench: Bench) -> None:
    lost, young = waiting(bench, age_s=10), waiting(bench, age_s=6)
    consumed(bench, "default", now_ms(bench) - 7_000)
    sweeper = bench.recovery(depth=lambda _: 3)
    assert woken_by(sweeper) == [(lost.run_id, None)]
    assert woken_by(sweeper) == [], "it counts as sent again now"
    assert bench.phase(young) is Phase.WAITING


def test_a_wake_up_is_lost_when_its_queue_is_empty(bench: Bench) -> None:
    lost, _young = waiting(bench, age_s=10), waiting(bench, age_s=1)
    assert woken_by(bench.recovery(depth=lambda _: 0)) == [(lost.run_id, None)]


def test_what_a_worker_has_taken_and_not_acted_on_is_not_lost_while_it_lives(bench: Bench) -> None:
    taken = waiting(bench, age_s=60)
    now = now_ms(bench)
    for call in recovery.beat(bench.keys, "w", {"queues": "default"}, {}, now, holds=["default"]):
        bench.do(call)
    sweeper = bench.recovery(depth=lambda _: 0)
    assert woken_by(sweeper) == []
    bench.client.zadd(bench.keys.holding, {"default": now - 1})  # its last word was some seconds ago
    assert woken_by(sweeper) == [(taken.run_id, None)]


@pytest.mark.parametrize("depth", [100, None])
def test_a_backlog_that_is_merely_long_or_of_unknown_length_is_left_alone(bench: Bench, depth: int | None) -> None:
    for age_s in range(60, 0, -1):
        waiting(bench, age_s=age_s)
    consumed(bench, "default", now_ms(bench) - 60_000)
    before = bench.dump()
    assert woken_by(bench.recovery(depth=lambda _: depth)) == []
    bench.client.delete(bench.keys.leader)
    assert bench.dump() == before


def test_a_claim_tells_when_its_wake_up_was_sent_but_not_when_there_may_be_two(bench: Bench) -> None:
    once, twice = waiting(bench, age_s=10), waiting(bench, age_s=10)
    sent = bench.client.zscore(bench.at.waiting, once.run_id)
    assert bench.claimed(once).woken_ms == sent
    bench.recovery(depth=lambda _: 0).sweep()
    claim = bench.claimed(twice)
    assert claim.woken_ms == 0, "the older message may have led here: it says nothing of the newer"
    bench.do(runs.give_back(bench.keys, twice.run_id, claim.fence))
    assert bench.claimed(twice).woken_ms == 0, "the other message is still on its way"


def test_a_doubled_wake_up_does_not_make_the_backlog_behind_it_look_lost(bench: Bench) -> None:
    first = waiting(bench, age_s=30)
    bench.recovery(depth=lambda _: 0).sweep()  # a mistake: the first message is still in the queue
    for age_s in range(29, 3, -1):
        waiting(bench, age_s=age_s)
    claim = bench.claimed(first)  # by the first message
    consumed(bench, "default", claim.woken_ms)
    bench.do(runs.give_back(bench.keys, first.run_id, claim.fence))
    consumed(bench, "default", bench.claimed(first).woken_ms)  # by the second, long before its turn
    assert woken_by(bench.recovery(depth=lambda _: 27)) == []


def test_what_was_lost_from_one_queue_is_found_behind_a_long_backlog_of_another(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: waiting(bench, age_s=60), range(_BATCH + 50)))
    lost = waiting(bench, age_s=30, queue="cpu")
    consumed(bench, "cpu", 1)
    sweeper = bench.recovery(depth={"default": 550, "cpu": 0}.get)
    found = [wake for _ in range(3) for wake in woken_by(sweeper)]
    assert found == [(lost.run_id, None)]


def test_what_was_lost_from_a_queue_that_nobody_ever_consumed_is_found(bench: Bench) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "never-seen")
    bench.age_all(bench.at.waiting)
    sweeper = bench.recovery(depth=lambda _: 0)
    assert [wake for _ in range(2) for wake in woken_by(sweeper)] == [(run.run_id, "b0")]


def test_a_sweep_that_could_not_send_its_wake_ups_is_made_good_by_a_later_one(bench: Bench) -> None:
    run = waiting(bench, age_s=10)
    sweeper = bench.recovery(depth=lambda _: 0)
    sweeper.sweep()
    bench.wakes.clear()  # the broker lost them
    bench.backdate(bench.at.waiting, run.run_id)
    assert woken_by(sweeper) == [(run.run_id, None)]


def test_what_waits_for_a_run_that_is_gone_is_dropped(bench: Bench) -> None:
    gone = bench.record()
    for index in (bench.at.waiting, bench.at.leases, bench.at.due):
        bench.client.zadd(index, {gone.run_id: 1, f"{gone.run_id}/b0": 1})
    assert woken_by(bench.recovery(depth=lambda _: 0)) == []
    assert not bench.client.exists(bench.at.waiting, bench.at.leases, bench.at.due)


# --- pruning


def saved(bench: Bench, run: Run) -> None:
    """A checkpoint that the run made."""
    put(bench.service.saver, place_at(run.thread_id), {"n": 1}, run_id=run.run_id)


@pytest.mark.parametrize("was", ["waiting", "in hand"])
def test_a_roll_back_that_was_cut_off_is_finished_and_the_next_run_goes_on(bench: Bench, was: str) -> None:
    run = bench.create()
    following = bench.create(run.thread_id)
    saved(bench, run)
    fence = bench.claimed(run).fence if was == "in hand" else None
    bench.cancel(run, "rollback")
    if fence:
        bench.end(run, fence, Phase.CANCELLED, hold_thread=True)
    assert bench.phase(run) is Phase.CANCELLED
    assert bench.phase(following) is Phase.QUEUED
    assert woken_by(bench.recovery()) == []
    assert bench.get(run), "whoever began it is given a few seconds"
    bench.age_all(bench.at.rollbacks)
    bench.recovery().sweep()
    assert [wake.run_id for wake in bench.wakes] == [following.run_id]
    assert bench.get(run) is None
    assert bench.service.saver.get_tuple(place_at(run.thread_id)) is None
    assert not bench.client.exists(bench.at.rollbacks)


def test_a_run_past_its_keeping_is_forgotten_and_its_thread_and_state_stay(bench: Bench) -> None:
    run, kept = bench.create(), bench.create()
    for one in (run, kept):
        saved(bench, one)
        bench.end(one, bench.claimed(one).fence)
    bench.backdate(bench.at.ended, run.run_id, by_ms=31 * 86_400_000)
    bench.recovery().sweep()
    assert bench.get(run) is None
    assert bench.get(kept)
    assert bench.service.get_thread(run.thread_id).status == "idle"
    assert bench.service.saver.get_tuple(place_at(run.thread_id))


def test_a_thread_that_was_made_for_one_run_goes_with_it_and_leaves_nothing(bench: Bench) -> None:
    run = bench.service.create_run(RunRequest(), graph_id="g", assistant_id="g")
    bench.end(run, bench.claimed(run).fence)
    saved(bench, run)  # its worker died before it removed them
    bench.backdate(bench.at.ended, run.run_id, by_ms=31 * 86_400_000)
    bench.recovery().sweep()
    left = [key for key in bench.dump() if run.run_id in key or run.thread_id in key]
    assert left in ([], [bench.at.events(run.run_id)])  # what it told is kept for a moment
    assert bench.client.zscore(bench.at.threads, run.thread_id) is None


# --- the leader


def test_of_many_processes_exactly_one_leads(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        led = list(pool.map(lambda n: bench.do(recovery.lead(bench.keys, f"w{n}", office_ms=60_000))[0], range(32)))
    assert sum(led) == 1
    assert [bench.do(recovery.lead(bench.keys, f"w{n}", office_ms=60_000))[0] for n in range(32)] == led


def test_a_process_that_does_not_lead_touches_nothing(bench: Bench) -> None:
    run = waiting(bench, age_s=10)
    bench.do(recovery.lead(bench.keys, "another", office_ms=60_000))
    assert bench.recovery(depth=lambda _: 0).sweep() == []
    assert bench.phase(run) is Phase.WAITING


def test_another_process_leads_when_the_office_has_ended(bench: Bench) -> None:
    bench.recovery("first").sweep()
    assert 0 < bench.client.pttl(bench.keys.leader) <= OFFICE_S * 1000
    bench.client.pexpire(bench.keys.leader, 1)
    run = waiting(bench, age_s=10)
    second = bench.recovery("second", depth=lambda _: 0)
    assert eventually(lambda: woken_by(second)) == [(run.run_id, None)]


def test_a_process_that_stops_lays_its_office_down_and_only_its_own(bench: Bench) -> None:
    first, second = bench.recovery("first"), bench.recovery("second")
    first.start()
    eventually(lambda: bench.client.get(bench.keys.leader) == b"first")
    assert bench.do(recovery.resign(bench.keys, "second")) == 0
    first.stop()
    assert bench.client.get(bench.keys.leader) is None
    second.sweep()
    assert bench.client.get(bench.keys.leader) == b"second"


def test_how_far_a_queue_was_consumed_only_grows(bench: Bench) -> None:
    for ms in (5, 9, 7, 0):
        consumed(bench, "default", ms)
    assert bench.do(recovery.consumed(bench.keys)) == {"default": 9}
