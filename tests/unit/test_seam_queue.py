"""The queue between a graph and whoever reads its stream: as LangGraph's own, with less to keep."""

from __future__ import annotations

import asyncio
import inspect
import operator
import re
from typing import Annotated, Any, TypedDict

import pytest
from langgraph._internal._queue import AsyncQueue
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel, main

from runyard.engine.seam import StreamQueue


class State(TypedDict, total=False):
    out: Annotated[list[str], operator.add]


def graph(width: int = 20) -> Any:
    builder = StateGraph(State)
    for number in range(width):

        async def node(_: State, number: int = number) -> State:
            await asyncio.sleep(0.001 * (number % 3))
            return {"out": [str(number)]}

        builder.add_node(f"n{number}", node).add_edge(START, f"n{number}")
    inner = StateGraph(State).add_node("deep", node).add_edge(START, "deep").compile()
    return builder.add_node("inner", inner).add_edge("n0", "inner").compile()


async def told(made: Any) -> list[Any]:
    modes = ["updates", "custom", "values", "tasks"]
    parts = [part async for part in made.astream({}, stream_mode=modes, subgraphs=True)]
    ids = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
    return sorted(ids.sub("id", repr(part)) for part in parts)


def test_langgraph_makes_this_one_and_uses_no_more_of_it_than_there_is() -> None:
    assert main.AsyncQueue is StreamQueue  # type: ignore[attr-defined, comparison-overlap]
    source = inspect.getsource(Pregel.astream)
    assert "stream = AsyncQueue()" in source
    used = set(re.findall(r"\bstream\.(\w+)", source))
    assert used - {name for name in dir(StreamQueue) if not name.startswith("_")} == {"_count"}  # a guarded guess


async def test_the_same_is_streamed_through_both(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = await told(graph())
    monkeypatch.setattr(main, "AsyncQueue", AsyncQueue)
    assert ours == await told(graph())
    assert len(ours) > 60


async def test_who_waits_is_woken_by_what_comes_and_gets_it_in_order() -> None:
    queue = StreamQueue()
    waiter = asyncio.create_task(queue.wait())
    await asyncio.sleep(0)
    assert not waiter.done()
    for part in range(3):
        queue.put_nowait(part)
    await asyncio.wait_for(waiter, 1)
    await asyncio.wait_for(queue.wait(), 1)  # something is there
    assert [queue.get_nowait() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


async def test_a_waiter_that_was_cancelled_leaves_the_queue_to_the_next() -> None:
    queue = StreamQueue()
    gone, waiter = asyncio.create_task(queue.wait()), None
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    queue.put_nowait("kept")
    assert queue.get_nowait() == "kept"
    waiter = asyncio.create_task(queue.wait())
    await asyncio.sleep(0)
    queue.put_nowait("next")
    await asyncio.wait_for(waiter, 1)
