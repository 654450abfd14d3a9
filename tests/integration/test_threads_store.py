"""Threads in the store: made, edited and deleted while others do the same."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runyard.engine import wire
from runyard.engine.errors import LeaseLost, ThreadExists, ThreadNotFound
from runyard.engine.ids import new_thread_id
from runyard.engine.run import Phase
from runyard.engine.store import events, runs, threads
from runyard.engine.store.client import Call
from tests.support.checkpoints import at as place_at, put
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, partitions=4)
    yield made
    made.close()


def test_a_thread_with_a_taken_id_is_refused_or_answered_as_the_client_wishes(bench: Bench) -> None:
    thread_id = new_thread_id()
    bench.service.create_thread(thread_id, {"owner": "me"})
    before = bench.dump()
    with pytest.raises(ThreadExists):
        bench.service.create_thread(thread_id, {"owner": "you"})
    again = bench.service.create_thread(thread_id, {"owner": "you"}, exist_ok=True)
    assert again.metadata == {"owner": "me"}
    assert bench.dump() == before


def test_of_many_that_make_one_thread_exactly_one_does(bench: Bench) -> None:
    thread_id = new_thread_id()

    def make(number: int) -> bool:
        try:
            bench.service.create_thread(thread_id, {"by": number})
        except ThreadExists:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(make, range(32))) == 1


def test_a_thread_with_an_id_of_ours_is_made_even_when_the_first_answer_was_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = new_thread_id()
    monkeypatch.setattr("runyard.engine.service.new_thread_id", lambda: thread_id)
    first = bench.service.create_thread(metadata={"n": 1})
    assert bench.service.create_thread(metadata={"n": 1}) == first


def test_edits_of_metadata_that_race_all_count(bench: Bench) -> None:
    thread = bench.service.create_thread()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: bench.service.update_thread(thread.thread_id, {f"k{n}": n}), range(16)))
    assert bench.service.get_thread(thread.thread_id).metadata == {f"k{n}": n for n in range(16)}


def test_an_edit_of_what_has_changed_since_it_was_read_changes_nothing(bench: Bench) -> None:
    read = bench.service.create_thread()
    bench.service.update_thread(read.thread_id, {"a": 1})
    before = bench.dump()
    assert bench.do(threads.edit(bench.keys, read, {"metadata": wire.encode({"b": 2})})) is None
    assert bench.dump() == before


def test_a_thread_that_is_not_there_cannot_be_read_edited_or_deleted(bench: Bench) -> None:
    gone = bench.service.create_thread()
    bench.service.delete_thread(gone.thread_id)
    with pytest.raises(ThreadNotFound):
        bench.service.get_thread(gone.thread_id)
    with pytest.raises(ThreadNotFound):
        bench.do(threads.edit(bench.keys, gone, {"metadata": b"{}"}))
    with pytest.raises(ThreadNotFound):
        bench.service.delete_thread(gone.thread_id)
    assert bench.dump() == {}


def test_a_thread_is_busy_while_a_run_is_active_queued_or_delayed(bench: Bench) -> None:
    thread = bench.service.create_thread()

    def status() -> str:
        return bench.service.get_thread(thread.thread_id).status

    assert status() == "idle"
    delayed = bench.create(thread.thread_id, delay_ms=60_000)
    assert status() == "busy"
    bench.cancel(delayed)
    assert status() == "idle"
    run = bench.create(thread.thread_id)
    queued = bench.create(thread.thread_id)
    assert status() == "busy"
    bench.end(run, bench.claimed(run).fence)
    assert status() == "busy"
    bench.end(queued, bench.claimed(queued).fence, Phase.PAUSED)
    assert status() == "interrupted"


def test_a_deleted_thread_leaves_nothing_but_the_last_words_of_its_runs(bench: Bench) -> None:
    thread_id = bench.service.create_thread().thread_id
    ended, in_hand = bench.create(thread_id), bench.create(thread_id)
    bench.end(ended, bench.claimed(ended).fence)
    fence = bench.claimed(in_hand).fence
    for run in (bench.create(thread_id), bench.create(thread_id, delay_ms=60_000), in_hand):
        put(bench.service.saver, place_at(thread_id), {"n": 1}, run_id=run.run_id)
    bench.do(bench.told(in_hand, fence, 0, ("values", b"1"), numbered=True))
    assert bench.do(events.log(bench.keys, thread_id))
    bench.service.delete_thread(thread_id)
    left = bench.dump()
    assert all(key.endswith(":events") for key in left)
    assert all(0 < bench.client.pttl(key) <= 1000 for key in left)
    with pytest.raises(LeaseLost):
        bench.do(runs.give_back(bench.keys, in_hand.run_id, fence))


def test_a_deleted_thread_and_runs_that_are_posted_to_it_meanwhile_never_part(bench: Bench) -> None:
    thread_id = new_thread_id()
    for _ in range(10):
        bench.create(thread_id)
        with ThreadPoolExecutor(4) as pool:
            posted = [pool.submit(bench.create, thread_id) for _ in range(8)]
            bench.service.delete_thread(thread_id)
            for one in posted:
                one.result()
        at = bench.keys.of_thread(thread_id)
        stored = {key.decode().rpartition(":")[2] for key in bench.client.scan_iter(at.run("????????-*-????????????"))}
        stored.discard("events")
        assert {run_id.decode() for run_id in bench.client.zrange(at.thread_runs(thread_id), 0, -1)} == stored
        assert bool(stored) == bool(bench.client.exists(at.thread(thread_id)))


def test_a_thread_that_got_a_run_in_the_meantime_is_not_deleted(bench: Bench) -> None:
    run = bench.create()
    before = bench.dump()
    assert bench.do(threads.delete(bench.keys, run.thread_id)) is False
    assert bench.dump() == before


def test_a_client_may_edit_a_threads_state_only_while_no_run_has_it(bench: Bench) -> None:
    run = bench.create()
    fence = threads.idle_fence(bench.keys, run.thread_id)
    other = bench.record(run.thread_id)
    edit: Call[int] = runs.set_fields(bench.keys, other.run_id, fence, {"marker": "1"})
    with pytest.raises(LeaseLost):
        bench.do(edit)
    bench.end(run, bench.claimed(run).fence)
    assert bench.do(edit) == 1


def test_hidden_threads_are_in_no_listing(bench: Bench) -> None:
    shown = bench.service.create_thread()
    bench.create("00000000-0000-4000-8000-00000000000c", temporary=True)
    found, total = bench.service.search_threads()
    assert ([thread.thread_id for thread in found], total) == ([shown.thread_id], 1)
