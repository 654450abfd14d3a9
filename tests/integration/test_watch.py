"""Waiting for what runs tell: many readers, late ones, silent ones, and a store that goes away."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from runyard.engine.ids import maker_of_run, new_run_id
from runyard.engine.live import Live
from runyard.engine.run import Phase, Run
from runyard.engine.store import events, runs
from runyard.engine.store.client import AsyncStore
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.events import Event
from runyard.engine.store.fence import Fence
from runyard.engine.watch import Bell, ThreadBell, Watch
from tests.support.eventually import eventually
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, partitions=4)
    yield made
    made.close()


@pytest.fixture
def watch(bench: Bench) -> Iterator[Watch]:
    made = Watch(bench.store, bench.keys)
    yield made
    made.close()  # else its thread subscribes anew, and the next test counts it


class Teller:
    """A run in hand that tells things."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.run, self.told = bench, bench.create(), 0
        self.fence: Fence = bench.claimed(self.run).fence

    def tell(self, *numbers: int) -> None:
        parts = [("values", str(number).encode()) for number in numbers]
        self.bench.do(self.bench.told(self.run, self.fence, self.told, *parts))
        self.told += 1

    def end(self) -> None:
        self.bench.end(self.run, self.fence)


def read_all(watch: Watch, run: Run) -> list[str]:
    return [event.data.decode() for event in watch.events(run.run_id) if event and event.name != events.END]


def listeners(bench: Bench, run: Run) -> int:
    [(_, count)] = bench.client.pubsub_numsub(bench.keys.of_run(run.run_id).events(run.run_id))
    return int(count)


def test_many_readers_of_one_run_each_get_every_event_in_order(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    with ThreadPoolExecutor(20) as pool:
        readers = [pool.submit(read_all, watch, teller.run) for _ in range(20)]
        for number in range(0, 300, 3):
            teller.tell(number, number + 1, number + 2)
        teller.end()
        for reader in readers:
            assert reader.result(timeout=20) == [str(number) for number in range(300)]
    assert listeners(bench, teller.run) in (0, 1)


def test_many_readers_share_one_subscription_and_the_last_to_leave_ends_it(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    readers = [watch.events(teller.run.run_id, pause_s=0.05) for _ in range(5)]
    assert [next(reader) for reader in readers] == [None] * 5
    eventually(lambda: listeners(bench, teller.run) == 1)
    for reader in readers[:4]:
        reader.close()  # type: ignore[attr-defined]
    assert listeners(bench, teller.run) == 1
    readers[4].close()  # type: ignore[attr-defined]
    eventually(lambda: listeners(bench, teller.run) == 0)


def test_readers_of_different_runs_hear_only_their_own(bench: Bench, watch: Watch) -> None:
    tellers = [Teller(bench) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read_all, watch, teller.run) for teller in tellers]
        for number in range(20):
            for place, teller in enumerate(tellers):
                teller.tell(100 * place + number)
        for teller in tellers:
            teller.end()
        for place, reader in enumerate(readers):
            assert reader.result(timeout=20) == [str(100 * place + number) for number in range(20)]


def test_a_reader_that_comes_late_misses_nothing(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    teller.tell(*range(1200))  # more than is read at once
    teller.end()
    assert read_all(watch, teller.run) == [str(number) for number in range(1200)]


def test_a_reader_that_comes_back_goes_on_after_what_it_has_seen(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    teller.tell(1, 2, 3)
    teller.end()
    seen = [event for event in islice(watch.events(teller.run.run_id), 2) if event]
    rest = [event.data for event in watch.events(teller.run.run_id, seen[-1].id) if event]
    assert rest[0] == b"3"
    assert rest[1].startswith(b'{"status"')


def test_silence_yields_none_again_and_again_and_an_event_at_once(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    reader = watch.events(teller.run.run_id, pause_s=0.05)
    assert [next(reader), next(reader)] == [None, None]
    teller.tell(1)
    told = next(event for event in reader if event)
    assert told.data == b"1"
    assert next(reader) is None


def test_a_waiting_reader_is_rung_and_need_not_look_for_itself(
    bench: Bench, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard.engine.watch.LOOK_S", 30.0)
    teller = Teller(bench)
    heard = threading.Event()

    def read() -> list[str]:
        found = []
        for event in watch.events(teller.run.run_id, pause_s=30):
            assert event is not None
            found.append(event.name)
            heard.set()
        return found

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        eventually(lambda: listeners(bench, teller.run) == 1)
        teller.tell(1)
        assert heard.wait(5)
        teller.end()
        assert reader.result(timeout=5) == ["values", "end"]


def test_a_reader_outlives_a_restart_of_the_store_and_is_rung_again(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "own") as server:
        bench = Bench(server.url, partitions=4)
        watch, teller = Watch(bench.store, bench.keys), Teller(bench)
        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(read_all, watch, teller.run)
            teller.tell(1)
            eventually(lambda: listeners(bench, teller.run) == 1)
            server.kill()
            server.restart()
            teller.tell(2)
            eventually(lambda: listeners(bench, teller.run) == 1, what="it has subscribed anew")
            teller.tell(3)
            teller.end()
            assert reader.result(timeout=10) == ["1", "2", "3"]
        watch.close()
        bench.close()


def test_the_last_words_of_a_deleted_run_end_its_readers(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read_all, watch, teller.run)
        eventually(lambda: listeners(bench, teller.run) == 1)
        bench.delete(teller.run)
        assert reader.result(timeout=5) == []


# --- who waits for an end alone


KEYS_OF_ENCRYPTION = "one:" + base64.b64encode(b"1" * 32).decode()


def looks(bench: Bench) -> int:
    """How often the last event of a run was read."""
    return int(bench.client.info("commandstats").get("cmdstat_xrevrange", {}).get("calls", 0))


def ears(bench: Bench, run: Run) -> int:
    """How many listen for the end of a run. Watches that other tests left may, too: what a test sees of its own is how
    the number changes."""
    [(_, count)] = bench.client.pubsub_numsub(bench.keys.of_run(run.run_id).ends(maker_of_run(run.run_id)))
    return int(count)


def made_by(watch: Watch, bench: Bench) -> Run:
    """A run of the very process that waits for it, as those are that one request starts and waits for."""
    run = bench.record()
    return replace(run, run_id=new_run_id(bench.keys.of_run(run.run_id).number, watch.maker))


def recorded(bench: Bench, run: Run) -> Fence:
    """A run that was awaited before, recorded and in hand."""
    bench.do(runs.create(bench.keys, run, create_thread=True))
    return bench.claimed(run).fence


@pytest.mark.parametrize("own", [True, False], ids=["its own", "another's"])
@pytest.mark.parametrize("keys", ["", KEYS_OF_ENCRYPTION], ids=["plain", "encrypted"])
def test_who_waits_since_before_a_run_was_recorded_is_told_its_result_and_reads_nothing(
    redis_url: str, keys: str, own: bool
) -> None:
    bench = Bench(redis_url, partitions=4, encryption_keys=keys)
    watch = Watch(bench.store, bench.keys)
    run = made_by(watch, bench) if own else bench.record()
    others = ears(bench, run)
    with watch.awaited() as awaited:
        awaited.begin(run)
        eventually(lambda: ears(bench, run) > others)
        fence, before = recorded(bench, run), looks(bench)
        bench.end(run, fence, report=b'{"n":1}')
        told = awaited.end(run, within_s=0.9)
    assert told is not None
    assert events.result_in(told) == b'{"n":1}'
    assert looks(bench) == before
    assert bench.do(events.end(bench.keys, run.run_id)) == [told]
    watch.close()
    bench.close()


def test_a_large_result_is_read_by_who_is_told_of_it(bench: Bench, watch: Watch) -> None:
    run, report = bench.record(), b'"%b"' % (b"x" * 9000)
    others = ears(bench, run)
    with watch.awaited() as awaited:
        awaited.begin(run)
        eventually(lambda: ears(bench, run) > others)
        fence, before = recorded(bench, run), looks(bench)
        bench.end(run, fence, report=report)
        told = awaited.end(run, within_s=0.9)
    assert told is not None
    assert events.result_in(told) == report
    assert looks(bench) == before + 1


def test_an_end_whose_news_was_lost_is_found_by_looking(
    bench: Bench, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard.engine.watch.LOOK_S", 0.05)
    run = bench.record()
    others = ears(bench, run)
    with watch.awaited() as awaited:
        awaited.begin(run)
        eventually(lambda: ears(bench, run) > others)
        watch.close()
        eventually(lambda: ears(bench, run) <= others)
        bench.end(run, recorded(bench, run))
        assert awaited.end(run, within_s=5) is not None


def test_a_watch_that_is_closed_while_it_reads_leaves_no_thread_and_no_subscription(bench: Bench) -> None:
    def threads() -> int:
        return sum(thread.name == "watch" for thread in threading.enumerate())

    before = threads()
    for _ in range(20):
        run, watch = bench.record(), Watch(bench.store, bench.keys)
        others = ears(bench, run)
        with watch.awaited() as awaited:
            awaited.begin(run)
            eventually(lambda run=run, others=others: ears(bench, run) > others)
            bench.end(run, recorded(bench, run))
            assert awaited.end(run, within_s=5) is not None  # its thread has heard of it, and reads on
            watch.close()
            eventually(lambda run=run, others=others: ears(bench, run) <= others and threads() <= before)


def test_who_waits_for_another_run_than_it_began_with_or_comes_late_looks_first(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    with watch.awaited() as awaited:
        awaited.begin(bench.record())  # of a request that was sent before, whose run is another
        assert awaited.end(teller.run, within_s=0.01) is None
        teller.end()
        assert awaited.end(teller.run, within_s=0.9) is not None
    with watch.awaited() as late:
        assert late.end(teller.run, within_s=0) is not None


def test_who_asks_for_a_run_that_is_over_reads_and_does_not_listen(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    teller.end()
    with watch.awaited() as late:
        told = late.end(replace(teller.run, phase=Phase.SUCCEEDED), within_s=0)
        assert told is not None
        assert told.name == events.END
        assert not bells(watch, teller.run)
        assert watch._channel is None, "nothing was subscribed to"


def test_a_process_is_told_the_ends_of_its_own_runs_and_of_others_only_while_somebody_waits_for_one(
    bench: Bench, watch: Watch
) -> None:
    own, other = made_by(watch, bench), bench.record()
    while maker_of_run(other.run_id) == watch.maker:
        other = bench.record()
    before = ears(bench, own), ears(bench, other)
    with watch.awaited() as awaited:
        awaited.begin(own)
        eventually(lambda: ears(bench, own) == before[0] + 1)
        assert ears(bench, other) == before[1]
    with watch.awaited() as one, watch.awaited() as two:
        one.begin(other)
        two.begin(other)
        eventually(lambda: ears(bench, other) == before[1] + 1)
        one.leave()
        bench.end(other, recorded(bench, other))
        assert two.end(other, within_s=0.9) is not None
    eventually(lambda: ears(bench, other) == before[1])
    assert ears(bench, own) == before[0] + 1, "it listens on for its own"


def test_who_leaves_twice_or_hands_over_after_it_left_takes_nothing_from_others(bench: Bench, watch: Watch) -> None:
    """A request's thread and the loop that answers it may both leave for it."""
    run, gone, stays = bench.record(), ThreadBell(), ThreadBell()
    while maker_of_run(run.run_id) == watch.maker:
        run = bench.record()
    before = ears(bench, run)
    watch.enter_end(run.run_id, gone)
    for _ in range(3):
        watch.leave_end(run.run_id, gone)
    watch.replace(run.run_id, gone, ThreadBell())
    assert not bells(watch, run)
    eventually(lambda: ears(bench, run) == before)
    watch.enter_end(run.run_id, stays)
    eventually(lambda: ears(bench, run) == before + 1)
    watch.leave_end(run.run_id, gone)
    bench.end(run, recorded(bench, run))
    assert stays.wait(5)


@pytest.mark.parametrize("own", [True, False], ids=["its own", "another's"])
@pytest.mark.parametrize("told_before", [True, False])
async def test_a_wait_that_goes_on_on_a_loop_misses_nothing_and_reads_nothing(
    bench: Bench, watch: Watch, told_before: bool, own: bool
) -> None:
    run = made_by(watch, bench) if own else bench.record()
    store = AsyncStore.connect(bench.settings.redis_url)
    live = Live(store, bench.keys, watch)
    others = ears(bench, run)
    with watch.awaited() as awaited:
        awaited.begin(run)
        await asyncio.to_thread(eventually, lambda: ears(bench, run) > others)
        assert awaited.keep(run)
    fence, before = recorded(bench, run), looks(bench)
    if told_before:
        bench.end(run, fence, report=b'{"n":1}')
        assert awaited.end(run, within_s=5) is not None  # what was heard by a thread is not taken from the loop
    ended = asyncio.create_task(_first(live.events(run.run_id, pause_s=30, only_end=True, awaited=awaited)))
    if not told_before:
        await asyncio.to_thread(eventually, lambda: waits_on_a_loop(watch, run))
        bench.end(run, fence, report=b'{"n":1}')
    async with asyncio.timeout(0.9):
        assert events.result_in(await ended) == b'{"n":1}'
    assert looks(bench) == before
    assert not bells(watch, run)
    await store.close()


async def test_a_wait_on_a_loop_whose_news_was_lost_looks_after_a_second(
    bench: Bench, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard.engine.live.LOOK_S", 0.05)
    run, store = bench.record(), AsyncStore.connect(bench.settings.redis_url)
    live = Live(store, bench.keys, watch)
    bench.end(run, recorded(bench, run))
    with watch.awaited() as awaited:
        awaited.begin(run)  # too late
        assert awaited.keep(run)
        async with asyncio.timeout(5):
            ended = await _first(live.events(run.run_id, pause_s=30, only_end=True, awaited=awaited))
    assert ended.name == events.END
    await store.close()


def test_a_wait_is_kept_only_for_the_run_it_is_for_and_where_nothing_failed(bench: Bench, watch: Watch) -> None:
    run, other = bench.record(), bench.record()
    with watch.awaited() as awaited:
        awaited.begin(run)
        assert not awaited.keep(other)
    assert not bells(watch, run)
    with suppress(ZeroDivisionError), watch.awaited() as failed:
        failed.begin(run)
        assert failed.keep(run) / 0
    assert not bells(watch, run)
    with watch.awaited() as kept:
        kept.begin(run)
        assert kept.keep(run)
    assert bells(watch, run)
    kept.leave()
    kept.leave()
    assert not bells(watch, run)


def bells(watch: Watch, run: Run) -> set[Bell]:
    """Who waits for the end of a run."""
    return set(watch._bells_of_ends.get(run.run_id, ()))


def waits_on_a_loop(watch: Watch, run: Run) -> bool:
    return any(not isinstance(bell, ThreadBell) for bell in bells(watch, run))


async def _first(parts: AsyncGenerator[Sequence[Event], None]) -> Event:
    async with aclosing(parts):
        async for some in parts:
            return some[0]
    raise AssertionError("nothing was told")


async def test_many_who_wait_on_a_loop_are_all_told_an_end(bench: Bench, watch: Watch) -> None:
    teller = Teller(bench)
    store = AsyncStore.connect(bench.settings.redis_url)
    live = Live(store, bench.keys, watch)

    async def last() -> bytes:
        async for some in live.events(teller.run.run_id, pause_s=30, only_end=True):
            if some:
                return some[-1].data
        return b""

    others = ears(bench, teller.run)
    waiting = [asyncio.create_task(last()) for _ in range(20)]
    await asyncio.to_thread(eventually, lambda: ears(bench, teller.run) > others)
    await asyncio.to_thread(teller.end)
    async with asyncio.timeout(5):
        assert set(await asyncio.gather(*waiting)) == {b'{"status":"success","result":{}}'}
    await store.close()
