"""What a listener of a thread that names no number hears first."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from langgraph.graph import END, START, StateGraph

from runyard.engine import thread_events
from runyard.engine.live import Live
from runyard.engine.protocol import STREAM_MODE
from runyard.engine.thread_events import BEGIN
from tests.support.engine import Engine, engine

GRAPH = (
    StateGraph(dict).add_node("work", lambda state: {"n": 1}).add_edge(START, "work").add_edge("work", END).compile()
)


async def first(running: Engine, thread_id: str) -> list[str]:
    """The runs that a new listener is told of before anything happens."""
    live = Live(running.worker.store, running.keys, running.service.watch)
    heard: list[str] = []
    async with aclosing(thread_events.follow(live, thread_id, None, pause_s=0.2, sees=lambda _: True)) as parts:
        async for some in parts:
            if not some:
                return heard
            heard += [found.run.run_id for found in some if found.event.name == BEGIN]
    return heard


async def test_a_run_of_the_protocol_that_ended_just_now_is_news_and_one_of_another_door_is_not(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(redis_url, {"g": GRAPH}) as running:
        classic = await running.run("g", {}, stream_mode=["values"])
        assert await first(running, classic.thread_id) == []
        spoken = await running.run("g", {}, thread_id=classic.thread_id, stream_mode=list(STREAM_MODE))
        assert await first(running, classic.thread_id) == [spoken.run_id]
        monkeypatch.setattr(thread_events, "JUST_NOW_S", 0.0)
        assert await first(running, classic.thread_id) == []


async def test_a_run_that_asks_is_news_whatever_started_it(redis_url: str) -> None:
    asking = GRAPH.builder.compile(interrupt_before=["work"])
    async with engine(redis_url, {"g": asking}) as running:
        paused = await running.run("g", {}, stream_mode=["values"])
        assert await first(running, paused.thread_id) == [paused.run_id]
