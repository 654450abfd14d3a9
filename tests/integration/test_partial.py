"""What each node has produced so far, whatever became of the run."""

from __future__ import annotations

from runyard.engine import state
from tests.integration.test_slices import fan_graph
from tests.support.engine import engine


async def test_a_failed_run_shows_what_its_nodes_have_produced(redis_url: str) -> None:
    async with engine(redis_url, {"g": fan_graph([], fails={2}, queue=None)}) as eng:
        run = await eng.run("g", {"items": [1, 2, 3], "out": []})
        parts = state.partial(eng.graphs["g"], eng.service.saver, run)
        assert [(part["node"], part["status"]) for part in parts] == [
            ("plan", "done"),
            ("work", "done"),
            ("work", "failed"),
            ("work", "done"),
        ]
        assert parts[1]["result"] == {"out": [2]}
        assert "item 2 is broken" in parts[2]["error"]


async def test_a_dispatched_run_shows_what_is_still_open(redis_url: str) -> None:
    async with engine(redis_url, {"g": fan_graph([])}) as eng:
        run = eng.start("g", {"items": [1, 2], "out": []})
        first, _second = await eng.carry_out(eng.wakes.popleft())
        await eng.carry_out(first)
        parts = state.partial(eng.graphs["g"], eng.service.saver, run)
        assert [part["status"] for part in parts] == ["done", "done", "open"]


async def test_only_what_the_run_itself_did_is_shown(redis_url: str) -> None:
    async with engine(redis_url, {"g": fan_graph([], queue=None)}) as eng:
        earlier = await eng.run("g", {"items": [1], "out": []})
        run = await eng.run("g", {"items": [2], "out": []}, thread_id=earlier.thread_id)
        parts = state.partial(eng.graphs["g"], eng.service.saver, run)
        assert [part["node"] for part in parts] == ["plan", "work", "total"]
