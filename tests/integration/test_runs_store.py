"""The scripts of runs: who gets a run, in which order, and what a repeated, late or fenced call does (nothing)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from runyard.engine import wire
from runyard.engine.errors import LeaseLost, RunNotFound, ThreadBusy, ThreadNotFound
from runyard.engine.ids import new_thread_id
from runyard.engine.run import Phase, Run
from runyard.engine.store import (
    checkpoint_calls,
    checkpoint_upkeep_calls as upkeep_calls,
    events,
    records,
    recovery,
    runs,
    sealed,
    threads,
)
from runyard.engine.store.checkpoint_calls import place_of
from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Partition
from runyard.engine.store.save import save
from runyard.engine.store.scripts import all_scripts, script
from tests.support.store import EVENTS_TTL_MS, LEASE_MS, Bench, branches


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    yield made
    made.close()


# --- races


def test_of_many_threads_that_claim_one_run_exactly_one_wins(bench: Bench) -> None:
    for _ in range(20):
        run = bench.create()
        with ThreadPoolExecutor(16) as pool:
            claims = list(pool.map(lambda n, run=run: bench.claim(run, owner=f"w{n}"), range(16)))
        (winner,) = [claim for claim in claims if claim]
        found = bench.get(run)
        assert found is not None
        assert (found.owner, found.token) == (winner.run.owner, 1)


def test_of_many_threads_that_claim_one_branch_exactly_one_wins(bench: Bench) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "cpu")
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: bench.claim_branch(run, "b0"), range(16)))
    assert sum(claim is not None for claim in claims) == 1


def test_of_many_runs_posted_to_one_thread_at_once_one_is_active_and_the_others_queue_in_order(bench: Bench) -> None:
    thread = new_thread_id()
    with ThreadPoolExecutor(16) as pool:
        posted = list(pool.map(lambda _: bench.create(thread), range(40)))
    (active,) = [run for run in posted if run.phase is Phase.WAITING]
    queued = [run_id.decode() for run_id in bench.client.zrange(bench.at.thread_queue(thread), 0, -1)]
    assert sorted([active.run_id, *queued]) == sorted(run.run_id for run in posted)
    carried_out = []
    woken = [(active.run_id, "default")]
    while woken:
        claim = bench.claimed(woken[0][0])
        carried_out.append(claim.run.run_id)
        woken = bench.end(claim.run, claim.fence)
    assert carried_out == [active.run_id, *queued]


def test_runs_of_one_thread_are_carried_out_in_the_order_they_were_posted(bench: Bench) -> None:
    thread = new_thread_id()
    posted = [bench.create(thread).run_id for _ in range(12)]
    carried_out = []
    woken = [(posted[0], "default")]
    while woken:
        claim = bench.claimed(woken[0][0])
        carried_out.append(claim.run.run_id)
        woken = bench.end(claim.run, claim.fence)
    assert carried_out == posted


def test_of_many_runs_posted_at_once_with_reject_exactly_one_is_accepted(bench: Bench) -> None:
    thread = new_thread_id()

    def post(_: int) -> bool:
        try:
            bench.create(thread, strategy="reject")
        except ThreadBusy:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(post, range(40))) == 1
    assert bench.client.zcard(bench.at.thread_runs(thread)) == 1


def test_a_run_that_was_refused_leaves_no_trace(bench: Bench) -> None:
    run = bench.create()
    before = bench.dump()
    with pytest.raises(ThreadBusy):
        bench.create(run.thread_id, strategy="reject")
    with pytest.raises(ThreadNotFound):
        bench.do(runs.create(bench.keys, bench.record()))
    assert bench.dump() == before


def test_a_delayed_run_counts_as_a_run_in_flight_for_reject_but_does_not_hold_the_thread(bench: Bench) -> None:
    run = bench.create(delay_ms=60_000)
    with pytest.raises(ThreadBusy):
        bench.create(run.thread_id, strategy="reject")
    assert bench.create(run.thread_id).phase is Phase.WAITING


# --- every script, sent twice and sent too late


@dataclass(frozen=True)
class Scene:
    """What scripts are sent to: a run in hand, one whose branch is in hand, and a queue behind the first."""

    run: Run
    fence: Fence
    spread: Run
    branch: Fence
    waiting: Run

    @classmethod
    def of(cls, bench: Bench) -> Scene:
        run = bench.create()
        bench.create(run.thread_id)
        spread = bench.create()
        bench.dispatch(spread, bench.claimed(spread).fence, "cpu", "cpu")
        branch = bench.claim_branch(spread, "b0")
        assert branch is not None
        return cls(run, bench.claimed(run).fence, spread, branch.fence, bench.create())


Make = Callable[[Bench, Scene], Call[object]]


def _place(bench: Bench, scene: Scene) -> checkpoint_calls.Place:
    return place_of(bench.keys, scene.run.thread_id, "")


def _overdue(bench: Bench, run: Run) -> Run:
    bench.client.hset(bench.at.run(run.run_id), "deadline_at", 1)
    return run


def _dead(bench: Bench) -> Run:
    run = bench.create()
    claim = bench.claimed(run)
    bench.do(runs.end(bench.keys, run, claim.fence, Phase.FAILED, events_ttl_ms=EVENTS_TTL_MS, error={"error": "E"}))
    return run


def _save(bench: Bench, scene: Scene) -> Call[None]:
    place, run_id, run_key = _place(bench, scene), scene.run.run_id, bench.at.run(scene.run.run_id)
    return save(scene.fence, [
        records.part(bench.keys, run_id, [b'{"kind":"tool"}', b'{"kind":"model"}'], keep=100),
        checkpoint_calls.writes_part(place, "c1", ("wtask\x000", b"v"), run_key=run_key),
        checkpoint_calls.checkpoint_part(
            place, "c1", body=b"{}", metadata=b"{}", parent_id="", versions="", values=("f", b"v"), emptied=("g",),
            run_id=run_id, run_key=run_key, step=1,
        ),
        events.part(bench.keys, run_id, [("values", b"{}")], keep=100, thread_id=scene.run.thread_id),
    ], 1)  # fmt: skip


#: Every script that a worker sends under its lease.
FENCED: dict[str, Make] = {
    "set_fields": lambda b, s: runs.set_fields(b.keys, s.run.run_id, s.fence, {"marker": "1"}),
    "yield_run": lambda b, s: runs.give_back(b.keys, s.run.run_id, s.fence),
    "dispatch_run": lambda b, s: runs.dispatch(b.keys, s.run.run_id, s.fence, branches("cpu")),
    "end_run": lambda b, s: runs.end(
        b.keys, s.run, s.fence, Phase.SUCCEEDED, events_ttl_ms=EVENTS_TTL_MS, values=b"{}"
    ),
    "delay_run": lambda b, s: runs.delay(b.keys, s.run.run_id, s.fence, 5_000),
    "note_attempt": lambda b, s: runs.note_attempt(
        b.keys, s.run.run_id, s.run.thread_id, s.fence, {"task_id": "t", "attempt": 1},
        degraded={"node": "n"}, part_of=3, again_ms=5_000,
    ),
    "note_answers": lambda b, s: runs.note_answers(
        b.keys, s.run.run_id, s.fence, step=3, key="k", needed=2, rest_ms=5_000, answered=["t"]
    ),
    "save": _save,
    "end_branch": lambda b, s: runs.end_branch(b.keys, s.spread.run_id, "b0", s.branch, {"error": {}}),
    "return_branch": lambda b, s: runs.return_branch(b.keys, s.spread.run_id, "b0", s.branch),
    "drop_checkpoints": lambda b, s: upkeep_calls.drop_run_members(_place(b, s), s.run.run_id, ["c1"], fence=s.fence),
    "drop_channels": lambda b, s: upkeep_calls.drop_channels(_place(b, s), [b"f"], fence=s.fence),
    "drop_loose": lambda b, s: upkeep_calls.drop_loose([(_place(b, s), "c1")], fence=s.fence),
    "forget_namespace": lambda b, s: upkeep_calls.forget_namespace(_place(b, s), fence=s.fence),
    "restore_checkpoint": lambda b, s: upkeep_calls.restore_checkpoint(
        _place(b, s), "c2", [b"c", b"{}"], fence=s.fence
    ),
    "restore_channels": lambda b, s: upkeep_calls.restore_channels(_place(b, s), [b"f", b"v"], fence=s.fence),
}  # fmt: skip
#: Scripts that nobody needs a lease for and that answer the same when sent again.
FREE: dict[str, Make] = {
    "create_run": lambda b, s: runs.create(b.keys, s.waiting, create_thread=True),
    "claim_run": lambda b, s: runs.claim(b.keys, s.waiting.run_id, owner="w", nonce="n", lease_ms=LEASE_MS),
    "claim_branch": lambda b, s: runs.claim_branch(b.keys, s.spread.run_id, "b1", nonce="n", lease_ms=LEASE_MS),
    "cancel_run": lambda b, s: runs.cancel(b.keys, s.run, "interrupt", events_ttl_ms=EVENTS_TTL_MS),
    "delete_thread": lambda b, s: threads.delete(b.keys, s.run.thread_id),
    "resign": lambda b, s: recovery.resign(b.keys, "nobody"),
    "note_consumed": lambda b, s: Call(script("note_consumed"), (b.keys.queues,), ("default", 5)),
    "reseal_stream": lambda b, s: sealed.reseal_stream(*_stream(b, s)),
}
#: Scripts whose second answer cannot be that of the first, and why that is harmless.
ANSWER_ONCE: dict[str, Make] = {
    # What they woke is in `waiting`: when the answer is lost, find_lost finds it.
    "promote_due": lambda b, s: recovery.promote(b.at, most=100),
    "cut_branches": lambda b, s: recovery.cut(b.keys, _overtime(b, s), most=100),
    "reap_leases": lambda b, s: recovery.reap(b.at, most=100),
    "delete_run": lambda b, s: runs.delete(b.keys, s.run.run_id, s.run.thread_id),
    "expire_run": lambda b, s: runs.expire(b.keys, _overdue(b, s.run), grace_ms=0, events_ttl_ms=EVENTS_TTL_MS),
    # It is not on the list any more, which is what was asked for.
    "revive_run": lambda b, s: runs.revive(b.keys, _dead(b), {}),
    "discard_run": lambda b, s: runs.discard(b.keys, _dead(b).run_id, "known"),
    # Found, they count as sent again; they are found once more when that was not so.
    "find_lost": lambda b, s: recovery.find_lost(b.at, {"default": 2**50}, before_ms=2**50, most=100, skip=0),
    # It counts what it has put, and the second time there is nothing left to put.
    "reseal": lambda b, s: sealed.reseal(b.at.run(s.run.run_id), "hash", [(b"graph_id", b"g", b"x")]),
    # A client's own id: it asked to be told. The service asks for "do_nothing" when the id is its own.
    "create_thread": lambda b, s: threads.create(b.keys, "00000000-0000-4000-8000-00000000000a", {}, exist_ok=False),
}  # fmt: skip
#: Scripts that are sent twice, and refused, in the tests of what they are for.
ELSEWHERE = {
    *("park_run", "park_branch", "unpark", "take_share", "give_share", "admit_call", "record_call", "force_circuit"),
    *("begin_call", "note_spent", "grant_budget"),
    *("begin_effect", "note_death", "get_stale", "put_stale"),
    *("claim_notice", "put_notice", "settle_notice"),
    *("claim_webhook", "settle_webhook", "put_cron", "fire_cron", "delete_cron"),
    *("save_api_key", "revoke_api_key"),
    *("create_assistant", "delete_assistant", "edit_assistant", "use_version"),
    *("delete_item", "get_item", "put_item", "sweep_items"),
}
#: Scripts that are sent again and again on purpose (the later time counts), or that only read.
TIMED_OR_READING = {
    *("renew_leases", "renew_shares", "lead", "edit_thread", "get_checkpoint", "read_checkpoints", "walk_ancestors"),
    "read_result",
    *("set_ttl", "expire_thread", "note_state", "keep_run"),
    *("wake_webhooks", "resend_webhook", "resend_notice"),
    *("find_labelled", "look_around", "measure_hashes", "sift_threads"),
}


def _stream(bench: Bench, scene: Scene) -> tuple[str, list[sealed.Entry]]:
    """A stream and its entries."""
    name = bench.at.events(scene.run.run_id)
    bench.client.xadd(name, {"e": "values", "d": "{}"})
    return name, bench.do(sealed.entries(name))


def _overtime(bench: Bench, scene: Scene) -> Partition:
    """The partition, once a branch of the spread run belongs to a fan-out whose rest has had its time."""
    run_id = scene.spread.run_id
    bench.client.zadd(bench.at.cuts, {run_id: 1})
    bench.client.hset(bench.at.run(run_id), "cut:k", 1)
    for branch, fanout in (("b0", "k"), ("b1", "")):
        bench.client.hset(bench.at.branches(run_id), f"{branch}:tasks", wire.encode({"fanout": fanout}))
    return bench.at


def test_every_script_is_in_one_of_these_lists() -> None:
    listed = [*FENCED, *FREE, *ANSWER_ONCE, *ELSEWHERE, *TIMED_OR_READING]
    assert sorted(listed) == [one.name for one in all_scripts()]


def bare(call: Call[object]) -> Call[object]:
    """The call with its answer as it came, without the instants that claims begin with."""
    return Call(call.script, call.keys, call.args, lambda reply: reply)


@pytest.mark.parametrize("name", [*FENCED, *FREE])
def test_a_script_that_is_sent_twice_does_and_answers_the_same_as_once(bench: Bench, name: str) -> None:
    call = bare({**FENCED, **FREE}[name](bench, Scene.of(bench)))
    first, after = bench.do(call), bench.dump()
    again = bench.do(call)
    assert bench.dump() == after
    if name.startswith("claim_"):  # the instant of the answer, and of a wake-up that is used up
        until = 3 if name == "claim_run" else 4
        first, again = first[1:until], again[1:until]
    elif name == "end_run":  # whom it admitted is in `waiting`: find_lost finds it
        first, again = [first[1:]], [again]
        assert first == [[b"default"]]
        assert again == [[]]
        return
    elif name.startswith("drop_"):  # how many there were
        return
    assert again == first


@pytest.mark.parametrize("name", ANSWER_ONCE)
def test_a_script_that_answers_only_once_still_does_it_only_once(bench: Bench, name: str) -> None:
    scene = Scene.of(bench)
    bench.create(delay_ms=60_000)
    for index in (bench.at.due, bench.at.leases):
        bench.age_all(index)
    call = ANSWER_ONCE[name](bench, scene)
    bench.do(call)
    after = bench.dump()
    if name == "create_thread":
        with pytest.raises(Exception, match="exists already"):
            bench.do(call)
    elif name == "find_lost":  # the same members, younger by a moment
        after = bench.dump()
        bench.do(recovery.find_lost(bench.at, {"default": 1}, before_ms=2**50, most=100, skip=0))
    else:
        bench.do(call)
    assert bench.dump() == after


@pytest.mark.parametrize("name", FENCED)
@pytest.mark.parametrize("loss", ["reaped", "taken over", "deleted"])
def test_who_has_lost_the_lease_can_write_nothing_with_any_script(bench: Bench, name: str, loss: str) -> None:
    scene = Scene.of(bench)
    call = FENCED[name](bench, scene)
    if loss == "deleted":
        bench.delete(scene.run)
        bench.delete(scene.spread)
    else:
        bench.age_all(bench.at.leases)
        bench.do(recovery.reap(bench.at, most=100))
        if loss == "taken over":
            bench.claimed(scene.run)
            assert bench.claim_branch(scene.spread, "b0")
    before = bench.dump()
    with pytest.raises(LeaseLost):
        bench.do(call)
    assert bench.dump() == before


def test_a_lease_that_is_past_its_time_but_not_reaped_is_still_held(bench: Bench) -> None:
    run = bench.create()
    claim = bench.claimed(run)
    bench.backdate(bench.at.leases, run.run_id)
    bench.do(runs.set_fields(bench.keys, run.run_id, claim.fence, {"marker": "1"}))
    assert bench.do(runs.renew(bench.keys, 0, [(run.run_id, claim.fence)], lease_ms=LEASE_MS)) == [1]
    assert bench.do(recovery.reap(bench.at, most=100)) == []


def test_a_claim_whose_reply_was_lost_is_answered_again_and_a_stranger_is_refused(bench: Bench) -> None:
    run = bench.create()
    first = bench.claim(run, nonce="mine")
    again = bench.claim(run, nonce="mine")
    assert first is not None
    assert again is not None
    assert (first.fence, first.run) == (again.fence, again.run)
    assert bench.claim(run, nonce="other") is None


def test_a_save_that_is_sent_again_adds_nothing_whatever_was_saved_after_it(bench: Bench) -> None:
    run = bench.create()
    fence = bench.claimed(run).fence

    def append(already: int, *names: str) -> list[str]:
        bench.do(bench.told(run, fence, already, *((name, b"{}") for name in names)))
        return [event.name for event in bench.do(events.read(bench.keys, run.run_id, events.START))]

    assert append(0, "a", "b") == ["a", "b"]
    assert append(0, "a", "b") == ["a", "b"]
    assert append(1, "c") == ["a", "b", "c"]
    assert append(0, "a", "b") == ["a", "b", "c"]
    assert append(1, "c") == ["a", "b", "c"]
    assert append(2, "d") == ["a", "b", "c", "d"]


def test_the_next_holder_of_a_run_counts_its_events_from_zero_and_they_follow_the_others(bench: Bench) -> None:
    run = bench.create()
    for name in ("a", "b"):
        fence = bench.claimed(run).fence
        bench.do(bench.told(run, fence, 0, (name, b"{}")))
        bench.do(runs.give_back(bench.keys, run.run_id, fence))
    assert [event.name for event in bench.do(events.read(bench.keys, run.run_id, events.START))] == ["a", "b"]
    assert not [field for field in bench.client.hkeys(bench.at.run(run.run_id)) if field.startswith(b"saved:")]


# --- branches


def test_the_last_branch_to_end_wakes_the_run_and_the_next_slice_is_told_what_they_left(bench: Bench) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "cpu", "gpu")
    for name, left in (("b1", 1), ("b0", 0)):
        claim = bench.claim_branch(run, name)
        assert claim is not None
        result = {"error": name} if name == "b1" else None
        assert bench.do(runs.end_branch(bench.keys, run.run_id, name, claim.fence, result)) == (left, "default")
    gathered = bench.claimed(run)
    assert gathered.came_from == "dispatched"
    assert wire.decode(gathered.branches["b1:result"]) == {"error": "b1"}
    assert gathered.branches["b0:result"] == ""


def test_branches_have_tokens_of_the_run_so_that_no_two_leases_share_one(bench: Bench) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "cpu", "gpu")
    held = [bench.claim_branch(run, name) for name in ("b0", "b1")]
    assert [claim.fence.value for claim in held if claim] == ["2", "3"]


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
def test_nothing_is_left_of_the_branches_of_a_run_that_was_ended_from_outside(bench: Bench, how: str) -> None:
    run = bench.create()
    bench.dispatch(run, bench.claimed(run).fence, "cpu", "gpu", "cpu")
    held = bench.claim_branch(run, "b1")
    assert held is not None
    if how == "cancelled":
        bench.cancel(run)
    else:
        bench.delete(run)
    assert not bench.client.exists(bench.at.leases, bench.at.waiting, bench.at.branches(run.run_id))
    assert bench.claim_branch(run, "b0") is None
    with pytest.raises(LeaseLost):
        bench.do(runs.end_branch(bench.keys, run.run_id, "b1", held.fence, None))


# --- what an end leaves behind


def test_a_run_that_never_began_leaves_its_thread_as_it_was_when_it_is_cancelled(bench: Bench) -> None:
    first = bench.create()
    claim = bench.claimed(first)
    bench.end(first, claim.fence, Phase.PAUSED, interrupts={"t": [{"id": "i", "value": "ok?"}]})
    before = bench.service.get_thread(first.thread_id)
    assert before.status == "interrupted"
    for delay_ms in (0, 60_000):
        bench.cancel(bench.create(first.thread_id, delay_ms=delay_ms))
        after = bench.service.get_thread(first.thread_id)
        assert (after.status, after.interrupts) == ("interrupted", before.interrupts)


def test_a_run_cut_off_between_two_slices_leaves_its_thread_interrupted(bench: Bench) -> None:
    run = bench.create()
    bench.do(runs.give_back(bench.keys, run.run_id, bench.claimed(run).fence))
    bench.cancel(run)
    thread = bench.service.get_thread(run.thread_id)
    assert (thread.status, thread.graph_id) == ("interrupted", "g")
    assert thread.error is not None
    assert thread.error["error"] == "UserInterrupt"


@pytest.mark.parametrize("by", ["its worker", "a client"])
def test_a_run_that_is_rolled_back_leaves_its_thread_idle_with_the_state_from_before_it(bench: Bench, by: str) -> None:
    first = bench.create()
    asked = {"t": [{"id": "i", "value": "ok?"}]}
    values = b'{"n":1}'
    bench.end(first, bench.claimed(first).fence, Phase.PAUSED, interrupts=asked, values=values)
    second = bench.create(first.thread_id)
    fence = bench.claimed(second).fence
    if by == "a client":
        bench.do(runs.give_back(bench.keys, second.run_id, fence))
        bench.service.cancel_run(second, "rollback")
    else:
        bench.cancel(second, "rollback")
        bench.end(second, fence, Phase.CANCELLED, hold_thread=True, values=b'{"n":2}')
        bench.delete(second)
    thread = bench.service.get_thread(first.thread_id)
    assert (thread.status, thread.interrupts, thread.values) == ("idle", asked, b'{"n":1}')
    assert bench.get(second) is None


def test_a_run_that_is_deleted_in_hand_takes_its_lease_along_and_the_next_one_goes_on(bench: Bench) -> None:
    run = bench.create()
    following = bench.create(run.thread_id)
    fence = bench.claimed(run).fence
    assert bench.delete(run) == [(following.run_id, "default")]
    assert bench.do(runs.renew(bench.keys, 0, [(run.run_id, fence)], lease_ms=LEASE_MS)) == [0]
    assert bench.phase(following) is Phase.WAITING
    assert not bench.client.exists(bench.at.leases)


def test_a_deleted_or_cancelled_run_of_the_queue_is_never_admitted(bench: Bench) -> None:
    run = bench.create()
    deleted, cancelled, last = (bench.create(run.thread_id) for _ in range(3))
    bench.delete(deleted)
    bench.cancel(cancelled)
    assert bench.end(run, bench.claimed(run).fence) == [(last.run_id, "default")]
    assert bench.get(deleted) is None
    assert bench.phase(cancelled) is Phase.CANCELLED


def test_a_delayed_run_that_is_cancelled_or_deleted_is_no_longer_counted(bench: Bench) -> None:
    runs_ = [bench.create("00000000-0000-4000-8000-00000000000b", delay_ms=60_000) for _ in range(2)]
    bench.cancel(runs_[0])
    bench.delete(runs_[1])
    assert bench.client.hget(bench.at.thread(runs_[0].thread_id), "delayed") == b"0"
    assert bench.service.get_thread(runs_[0].thread_id).status == "idle"


def test_deleting_a_run_again_tells_its_readers_nothing_new(bench: Bench) -> None:
    run = bench.create()
    bench.delete(run)
    told = bench.client.xlen(bench.at.events(run.run_id))
    bench.delete(run)
    assert (told, bench.client.xlen(bench.at.events(run.run_id))) == (1, 1)


def test_a_run_that_is_not_there_cannot_be_cancelled(bench: Bench) -> None:
    with pytest.raises(RunNotFound):
        bench.cancel(bench.record())
