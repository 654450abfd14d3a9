"""A deleted run takes along what it has done, and nothing that another run stands on."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from runyard.engine.errors import RunNotFound
from runyard.engine.run import Run
from runyard.engine.store import runs
from tests.support.engine import Engine, engine


class State(TypedDict, total=False):
    steps: Annotated[list[str], operator.add]


def graph() -> Any:
    return StateGraph(State).add_node("work", lambda _: {"steps": ["work"]}).add_edge(START, "work").compile()


@pytest.fixture
async def eng(redis_url: str) -> AsyncIterator[Engine]:
    async with engine(redis_url, {"g": graph()}) as made:
        made.service.roll_back_s = 0  # its workers act when told to, and never while it waits
        yield made


def in_hand(eng: Engine, run: Run) -> None:
    call = runs.claim(eng.keys, run.run_id, owner="busy", nonce="n", lease_ms=60_000)
    assert eng.sync_store.do(call) is not None


def made_by(eng: Engine, run: Run) -> int:
    """How many checkpoints of a run there are."""
    config: Any = {"configurable": {"thread_id": run.thread_id}}
    return sum(found.metadata.get("run_id") == run.run_id for found in eng.service.saver.list(config))


async def test_the_thread_is_where_it_was_before_the_run(eng: Engine) -> None:
    first = await eng.run("g", {"steps": ["a"]})
    second = await eng.run("g", {"steps": ["b"]}, thread_id=first.thread_id)
    eng.service.delete_run(second)
    assert (made_by(eng, first), made_by(eng, second)) == (3, 0)
    third = await eng.run("g", {"steps": ["c"]}, thread_id=first.thread_id)
    assert b'["a","work","c","work"]' in eng.service.kept_result(third)


async def test_what_a_run_in_hand_may_be_built_on_stays(eng: Engine) -> None:
    first = await eng.run("g", {"steps": ["a"]})
    following = eng.start("g", {"steps": ["b"]}, thread_id=first.thread_id)
    in_hand(eng, following)
    eng.service.delete_run(first)
    with pytest.raises(RunNotFound):
        eng.service.get_run(first.run_id)
    assert made_by(eng, first) == 3


async def test_a_run_whose_worker_does_not_answer_is_gone_at_once_and_the_next_is_admitted(eng: Engine) -> None:
    silent = eng.start("g", {"steps": ["a"]})
    behind = eng.start("g", {"steps": ["b"]}, thread_id=silent.thread_id)
    in_hand(eng, silent)
    eng.service.delete_run(silent)
    with pytest.raises(RunNotFound):
        eng.service.get_run(silent.run_id)
    await eng.drive()
    assert eng.service.get_run(behind.run_id).status == "success"


async def test_a_run_that_waits_for_its_turn_goes_without_a_trace(eng: Engine) -> None:
    waiting = eng.start("g", {"steps": ["a"]})
    behind = eng.start("g", {"steps": ["b"]}, thread_id=waiting.thread_id)
    eng.service.delete_run(behind)
    await eng.drive()
    assert [run.run_id for run in eng.service.list_runs(waiting.thread_id)] == [waiting.run_id]
    assert eng.service.get_run(waiting.run_id).status == "success"
