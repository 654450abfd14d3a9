"""A task that is alone in its superstep goes through TaskRunner in the task of whoever runs the graph."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import _runner
from langgraph.pregel._retry import arun_with_retry

from runyard.engine import seam
from runyard.engine.seam import alone
from tests.unit.test_seam import Spy, State, at, compiled, out

_said = contextvars.ContextVar("said", default="nothing")


async def test_langgraph_runs_tasks_by_the_name_that_is_ours() -> None:
    assert _runner.arun_with_retry is alone.run  # type: ignore[attr-defined, comparison-overlap]
    assert alone.run.__wrapped__ is arun_with_retry, "what a TaskRunner hands back would come round again"


async def test_a_lone_task_is_handed_to_nobody_and_one_with_siblings_is() -> None:
    lone, fan = Spy(compiled(("a", out(1)), ("b", out(2)))), Spy(compiled(("a", out(1)), ("b", out(2)), fan=True))
    for spy in (lone, fan):
        await spy.run({"out": []})
        assert not spy.runner._futures
    assert lone.names() == fan.names() == {"__start__": 1, "a": 1, "b": 1}


async def test_what_a_node_sets_in_its_context_stays_its_own() -> None:
    heard = []

    async def says(state: State) -> State:
        heard.append(_said.get())
        _said.set("something")
        return {"out": [1]}

    await Spy(compiled(("a", says), ("b", says))).run({"out": []})
    assert heard == ["nothing", "nothing"]
    assert _said.get() == "nothing"


async def test_a_node_that_takes_no_notice_of_being_cancelled_does_not_go_on() -> None:
    begun, after = asyncio.Event(), []

    async def stubborn(state: State) -> State:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return {"out": ["went on"]}

    async def then(state: State) -> State:
        after.append(1)
        return {}

    running = asyncio.create_task(Spy(compiled(("a", stubborn), ("b", then))).run({"out": []}))
    await asyncio.wait_for(begun.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    assert not after


async def test_a_graph_without_a_task_runner_is_run_as_ever() -> None:
    made = compiled(("a", out(1)), ("b", out(2)), saver=InMemorySaver())
    bound = seam.bind(made, made.checkpointer)
    assert await bound.ainvoke({"out": []}, at(), durability="sync") == {"out": [1, 2]}


async def test_a_lone_node_of_a_subgraph_is_not_taken_for_one_of_the_run() -> None:
    spy: Any = Spy(compiled(("sub", compiled(("x", out("x")), saver=False))))
    await spy.run({"out": []})
    assert spy.names() == {"__start__": 1, "sub": 1}
