"""What a slice saves on its way: together, in order, under its lease, and nobody is told of less."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from runyard.engine.errors import LeaseLost, StoreUnavailable
from runyard.engine.run import Phase
from runyard.engine.steps import TURNS, WRITES_WAIT_S, Steps
from runyard.engine.store import checkpoint_calls, events, records, runs
from runyard.engine.store.client import AsyncStore, Call
from runyard.engine.store.save import Part, part_names
from tests.support.eventually import eventually_async
from tests.support.store import Bench

#: How a slice ends: the run goes on elsewhere, or is over.
Over = Callable[[Steps], Awaitable[Any]]


class Scene:
    """A run in hand and what saves for it; every call that is sent is remembered."""

    def __init__(self, bench: Bench, store: AsyncStore) -> None:
        self.bench, self.store, self.run = bench, store, bench.create()
        self.fence = bench.claimed(self.run).fence
        self.sent: list[list[str]] = []
        send = store.send

        def watched(call: Call[Any]) -> asyncio.Future[Any]:
            self.sent.append(part_names(call))
            return send(call)

        store.send = watched  # type: ignore[method-assign]
        self.took_s: list[float] = []
        self.steps = self.new_steps()
        self.place = checkpoint_calls.place_of(bench.keys, self.run.thread_id, "")

    def new_steps(self, *, goes_on: bool = False) -> Steps:
        return Steps(
            self.store, self.bench.keys, self.run.run_id, self.run.thread_id, self.fence, keep_events=100,
            keep_records=100, goes_on=goes_on, saved=self.took_s.append,
        )  # fmt: skip

    def take_again(self) -> None:
        """The slice is over, and the next one begins."""
        self.bench.do(runs.give_back(self.bench.keys, self.run.run_id, self.fence))
        self.fence = self.bench.claimed(self.run).fence

    def writes(self, checkpoint_id: str = "c1") -> Part:
        return checkpoint_calls.writes_part(self.place, checkpoint_id, ("wtask\x000", b"v"))

    def checkpoint(self, checkpoint_id: str = "c1") -> Part:
        return checkpoint_calls.checkpoint_part(
            self.place, checkpoint_id, body=b"{}", metadata=b"{}", parent_id="", versions="", values=("f", b"v")
        )

    def told(self) -> list[str]:
        return [event.name for event in self.bench.do(events.read(self.bench.keys, self.run.run_id, events.START))]

    def noted(self) -> int:
        return int(self.bench.do(records.length(self.bench.keys, self.run.run_id)))

    def saved(self) -> bool:
        return bool(self.bench.client.exists(self.place.checkpoint("c1")))

    async def comes_to_be_saved(self) -> bool:
        return self.saved()

    def lose(self) -> None:
        """Let somebody else have the run."""
        self.bench.do(runs.give_back(self.bench.keys, self.run.run_id, self.fence))
        self.bench.claimed(self.run)


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    bench, store = Bench(redis_url), AsyncStore.connect(redis_url)
    yield Scene(bench, store)
    await store.close()
    bench.close()


async def test_a_superstep_goes_in_one_script_its_records_first(scene: Scene) -> None:
    scene.steps.tell("values", b"{}")
    scene.steps.wrote(scene.writes())
    scene.steps.note(b"{}")
    await scene.steps.checkpoint(scene.checkpoint())
    assert scene.sent == [["records", "writes", "checkpoint", "events"]]
    assert (scene.told(), scene.noted(), scene.saved()) == (["values"], 1, True)


@pytest.mark.parametrize("slices", [1, 400])
async def test_the_oldest_events_and_records_go_however_short_slices_are(scene: Scene, slices: int) -> None:
    for number in range(slices):
        steps = scene.new_steps(goes_on=number > 0)
        for _ in range(400 // slices):
            steps.tell("values", b"{}")
            steps.note(b"{}")
            await steps.flushed()
        scene.take_again()
    # about a hundred are kept, and the store drops a hundred at a time, when as many are new
    assert len(scene.told()) <= 300
    assert scene.noted() <= 300


async def test_how_long_each_checkpoint_took_is_told(scene: Scene) -> None:
    scene.steps.wrote(scene.writes())
    await scene.steps.flushed()
    assert scene.took_s == []
    for name in ("c1", "c2"):
        await scene.steps.checkpoint(scene.checkpoint(name))
    assert len(scene.took_s) == 2
    assert all(0 < took_s < 60 for took_s in scene.took_s)


async def test_what_a_task_wrote_is_saved_though_no_checkpoint_follows(scene: Scene) -> None:
    scene.steps.wrote(scene.writes())
    await eventually_async(scene.comes_to_be_saved)
    assert scene.sent == [["writes"]]


async def passes_on_a_busy_loop(count: int = 5, *, and_turns: int = TURNS + 1) -> None:
    """Turns of the loop that each take longer than what a task wrote waits while nodes are at work."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        until = loop.time() + 2 * WRITES_WAIT_S
        while loop.time() < until:
            pass
        await asyncio.sleep(0)
    for _ in range(and_turns):  # what is about to come has had its chance
        await asyncio.sleep(0)


async def test_what_is_left_when_the_last_node_has_ended_goes_with_the_checkpoint_however_busy_the_loop_is(
    scene: Scene,
) -> None:
    scene.steps.tell("values", b"{}")  # of the superstep before
    scene.steps.node_at_work()
    scene.steps.nodes_ended()
    scene.steps.wrote(scene.writes())
    await passes_on_a_busy_loop()
    assert scene.sent == []
    await scene.steps.checkpoint(scene.checkpoint())
    assert scene.sent == [["writes", "checkpoint", "events"]]


async def test_what_one_node_has_left_does_not_wait_for_the_others(scene: Scene) -> None:
    scene.steps.node_at_work()
    scene.steps.wrote(scene.writes())
    await passes_on_a_busy_loop()
    assert scene.sent == [["writes"]]


async def test_a_node_that_is_about_to_end_on_a_busy_loop_takes_along_what_has_waited_long_enough(scene: Scene) -> None:
    scene.steps.node_at_work()
    scene.steps.wrote(scene.writes())
    await passes_on_a_busy_loop(1, and_turns=1)
    scene.steps.nodes_ended()
    await scene.steps.checkpoint(scene.checkpoint())
    assert scene.sent == [["writes", "checkpoint"]]


async def test_what_is_left_from_before_does_not_wait_for_a_node_that_takes_its_time(scene: Scene) -> None:
    scene.steps.tell("values", b"{}")
    await passes_on_a_busy_loop()
    assert scene.sent == []
    scene.steps.node_at_work()
    await passes_on_a_busy_loop()
    assert scene.sent == [["events"]]


async def test_events_and_records_are_each_saved_once_however_many_saves_there_are(scene: Scene) -> None:
    for number in range(3):
        scene.steps.tell(f"e{number}", b"{}")
        scene.steps.note(b"{}")
        scene.steps.flush()
    await scene.steps.checkpoint(scene.checkpoint())
    assert (scene.told(), scene.noted()) == (["e0", "e1", "e2"], 3)


async def test_behind_a_save_that_the_store_could_not_take_nothing_is_saved(scene: Scene) -> None:
    scene.steps.wrote(scene.writes())
    scene.bench.client.config_set("maxmemory", 1)
    try:
        await asyncio.wait([scene.steps.flush() or pytest.fail("there was something to save")])
    finally:
        scene.bench.client.config_set("maxmemory", 0)
    scene.steps.tell("values", b"{}")
    with pytest.raises(StoreUnavailable):
        await scene.steps.checkpoint(scene.checkpoint())
    assert (scene.told(), scene.saved()) == ([], False)


async def test_who_lost_the_lease_saves_nothing_and_learns_it_at_the_next_checkpoint(scene: Scene) -> None:
    scene.lose()
    scene.steps.tell("values", b"{}")
    scene.steps.note(b"{}")
    scene.steps.wrote(scene.writes())
    with pytest.raises(LeaseLost):
        await scene.steps.checkpoint(scene.checkpoint())
    assert (scene.told(), scene.noted(), scene.saved()) == ([], 0, False)
    with pytest.raises(LeaseLost):
        await scene.steps.settle()


async def test_the_end_waits_for_what_tasks_wrote_also_when_it_is_on_its_way(scene: Scene) -> None:
    scene.steps.wrote(scene.writes())
    scene.steps.flush()
    scene.steps.tell("values", b"{}")
    await scene.steps.settle()
    assert scene.saved()


async def test_what_is_left_at_the_end_is_saved_by_the_script_that_ends_the_run(scene: Scene) -> None:
    scene.steps.wrote(scene.writes())
    scene.steps.flush()
    scene.steps.goes_along(scene.checkpoint())
    scene.steps.tell("values", b"{}")
    scene.steps.note(b"{}")
    parts = await scene.steps.rest()
    assert [part.name for part in parts] == ["records", "checkpoint", "events"]
    assert (scene.told(), scene.noted(), scene.saved()) == ([], 0, True), "what was on its way has arrived"
    call = runs.end(scene.bench.keys, scene.run, scene.fence, Phase.SUCCEEDED, events_ttl_ms=60_000, parts=parts)
    for _ in range(2):  # its answer may be lost
        await scene.store.do(call)
        assert (scene.told(), scene.noted()) == (["values", "end"], 1)


async def test_what_is_left_at_the_end_is_not_saved_by_who_lost_the_lease(scene: Scene) -> None:
    scene.steps.goes_along(scene.checkpoint())
    scene.steps.tell("values", b"{}")
    parts = await scene.steps.rest()
    scene.bench.client.hset(scene.fence.key, "lease", "another")
    call = runs.end(scene.bench.keys, scene.run, scene.fence, Phase.SUCCEEDED, events_ttl_ms=60_000, parts=parts)
    with pytest.raises(LeaseLost):
        await scene.store.do(call)
    assert (scene.told(), scene.saved()) == ([], False)


@pytest.mark.parametrize("over", [Steps.settle, Steps.rest])
async def test_the_end_waits_for_events_that_are_on_their_way(scene: Scene, over: Over) -> None:
    scene.steps.tell("values", b"{}")
    scene.steps.flush()
    scene.steps.tell("updates", b"{}")
    await over(scene.steps)
    assert scene.told()[0] == "values"


@pytest.mark.parametrize("over", [Steps.settle, Steps.rest])
async def test_nothing_is_over_behind_events_that_the_store_could_not_take(scene: Scene, over: Over) -> None:
    """A store that was full for a moment may take what comes next."""
    scene.steps.tell("values", b"{}")
    scene.bench.client.config_set("maxmemory", 1)
    try:
        scene.steps.flush()
        with pytest.raises(StoreUnavailable):
            await over(scene.steps)
    finally:
        scene.bench.client.config_set("maxmemory", 0)
