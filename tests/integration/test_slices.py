"""Slices: bounded, placed, fenced."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, Send, interrupt

from runyard.engine import wire
from runyard.engine.pace import MOST_READY
from runyard.engine.presence import Presence
from runyard.engine.run import Phase
from tests.support.engine import engine
from tests.support.oracle import FaultyEngine


class State(TypedDict, total=False):
    items: list[int]
    out: Annotated[list[int], operator.add]
    answer: str


def fan_graph(
    executed: list[int], *, fails: set[int] = frozenset(), asks: set[int] = frozenset(), queue: str | None = "cpu"
):
    async def work(state: Any) -> Any:
        executed.append(state["i"])
        await asyncio.sleep(0)
        if state["i"] in fails:
            raise ValueError(f"item {state['i']} is broken")
        if state["i"] in asks:
            return {"out": [interrupt(f"value for {state['i']}?")]}
        return {"out": [state["i"] * 2]}

    graph = StateGraph(State)
    graph.add_node("plan", lambda state: {})
    graph.add_node("work", work, metadata={"runyard": {"queue": queue}} if queue else None)
    graph.add_node("total", lambda state: {"out": [sum(state["out"])]})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("work", {"i": i}) for i in state["items"]], ["work"])
    graph.add_edge("work", "total")
    graph.add_edge("total", END)
    return graph.compile()


def values_of(eng: Any, run: Any) -> Any:
    return wire.decode(eng.service.get_thread(run.thread_id).values)


async def test_a_superstep_is_spread_over_workers_and_the_last_branch_wakes_the_run(redis_url: str) -> None:
    executed: list[int] = []
    async with engine(redis_url, {"fan": fan_graph(executed)}) as eng:
        run = eng.start("fan", {"items": [1, 2, 3], "out": []})
        first = await eng.carry_out(eng.wakes.popleft())
        assert [(wake.queue, wake.branch) for wake in first] == [("cpu", "b0"), ("cpu", "b1"), ("cpu", "b2")]
        assert eng.service.get_run(run.run_id).phase is Phase.DISPATCHED
        followed = [await eng.carry_out(wake) for wake in first]
        assert [len(wakes) for wakes in followed] == [0, 0, 1]
        eng.wakes.extend(followed[-1])
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
        assert values_of(eng, run)["out"] == [2, 4, 6, 12]
        assert sorted(executed) == [1, 2, 3]


async def test_a_branch_that_fails_fails_the_run_and_keeps_its_siblings(redis_url: str) -> None:
    executed: list[int] = []
    async with engine(redis_url, {"fan": fan_graph(executed, fails={2})}) as eng:
        run = await eng.run("fan", {"items": [1, 2, 3], "out": []})
        assert run.status == "error"
        assert (run.error or {})["message"] == "item 2 is broken"
        state = eng.worker.saver.get_tuple({"configurable": {"thread_id": run.thread_id}})
        assert sorted(value for _, channel, value in state.pending_writes if channel == "out") == [[2], [6]]


async def test_a_branch_that_asks_a_person_pauses_the_run_and_is_resumed_alone(redis_url: str) -> None:
    executed: list[int] = []
    async with engine(redis_url, {"fan": fan_graph(executed, asks={2})}) as eng:
        run = await eng.run("fan", {"items": [1, 2, 3], "out": []})
        assert run.phase is Phase.PAUSED
        (asked,) = eng.service.get_thread(run.thread_id).interrupts.values()
        assert asked[0]["value"] == "value for 2?"
        executed.clear()
        await eng.run("fan", thread_id=run.thread_id, command={"resume": 40})
        assert values_of(eng, run)["out"] == [2, 40, 6, 48]
        assert executed == [2]


@pytest.mark.parametrize("queue", [None, "cpu"])
async def test_a_failed_node_does_not_stop_its_siblings(redis_url: str, queue: str | None) -> None:
    executed: list[int] = []
    async with engine(redis_url, {"fan": fan_graph(executed, fails={1}, queue=queue)}) as eng:
        run = await eng.run("fan", {"items": [1, 2, 3, 4], "out": []})
        assert run.status == "error"
        assert sorted(executed) == [1, 2, 3, 4]


async def test_a_quantum_of_zero_gives_one_superstep_for_each_slice(redis_url: str) -> None:
    executed: list[int] = []
    async with engine(redis_url, {"fan": fan_graph(executed, queue=None)}, quantum_s=0) as eng:
        run = await eng.run("fan", {"items": [1, 2], "out": []})
        assert run.slices == 3  # plan; work; total, after which nothing is left to stop in front of
        assert values_of(eng, run)["out"] == [2, 4, 6]


async def test_runs_that_wait_are_all_in_hand_at_once_however_many_would_compute(redis_url: str) -> None:
    count, inside, all_are_in = 4 * MOST_READY, [], asyncio.Event()

    async def work(state: State) -> State:
        inside.append(state["answer"])
        if len(inside) == count:
            all_are_in.set()
        await asyncio.wait_for(all_are_in.wait(), 30)
        return {"out": [1]}

    graph = StateGraph(State).add_node("work", work).add_edge(START, "work").compile()
    async with engine(redis_url, {"wait": graph}) as eng:
        runs = [eng.start("wait", {"answer": str(number)}) for number in range(count)]
        await eng.drive()
        assert {eng.service.get_run(run.run_id).phase for run in runs} == {Phase.SUCCEEDED}


@pytest.mark.parametrize(("workers", "parts"), [(0, 20), (1, 4), (3, 12), (9, 20)])
async def test_a_superstep_is_cut_into_some_parts_for_each_worker_that_is_there(
    redis_url: str, workers: int, parts: int
) -> None:
    executed: list[int] = []
    async with engine(redis_url, {"fan": fan_graph(executed, queue="others")}, max_branches=64) as eng:
        for number in range(workers):
            Presence(eng.sync_store, eng.keys, f"w{number}", "others,more", lambda: 0).beat()
        Presence(eng.sync_store, eng.keys, "elsewhere", "default", lambda: 0).beat()
        run = eng.start("fan", {"items": list(range(20)), "out": []})
        sent = await eng.carry_out(eng.wakes.popleft())
        assert [wake.queue for wake in sent] == ["others"] * parts
        eng.wakes.extend(sent)
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
        assert sorted(executed) == list(range(20))


@pytest.mark.parametrize("given", [{"out": [0]}, {"unknown": 1}])
@pytest.mark.parametrize("dies", ["first", "quiet", "silent", "last"])
async def test_after_a_crash_values_are_told_again_only_where_they_may_be_news(
    redis_url: str, dies: str, given: dict[str, Any]
) -> None:
    """A worker loses its run in a node; whoever takes it up again starts from the checkpoint before that node."""
    met: list[str] = []

    def node(name: str, update: Any) -> Any:
        async def work(state: Any) -> Any:
            met.append(name)
            if name == dies and met.count(name) == 1:
                eng.expire()  # what this worker does from here on is refused
            return update

        return work

    updates = {"first": {"out": [1]}, "quiet": None, "silent": {}, "last": {"out": [2]}}
    graph = StateGraph(State)
    graph.add_sequence([(name, node(name, update)) for name, update in updates.items()])
    graph.add_edge(START, "first")
    eng = FaultyEngine(redis_url, {"g": graph.compile()}, faults=[])
    try:
        run = await eng.run("g", given, stream_mode=["values"])
        told = [wire.decode(event.data)["out"] for event in eng.told(run) if event.name == "values"]
    finally:
        await eng.close()
    begins = given.get("out", [])
    expected = ([begins] if begins else []) + [[*begins, 1], [*begins, 1, 2]]
    assert met.count(dies) == 2
    assert [values for values, before in zip(told, [None, *told], strict=False) if values != before] == expected
    wrote_nothing = {"quiet": False, "silent": True, "last": True, "first": not begins}[dies]
    if wrote_nothing:  # the superstep before the node that died
        assert told == expected


async def test_attempts_of_a_node_know_when_the_first_began_as_they_do_in_langgraph(redis_url: str) -> None:
    def graph(seen: list[tuple[int, float | None]]) -> Any:
        async def fails_once(state: State, runtime: Runtime[Any]) -> State:
            info = runtime.execution_info
            assert info is not None
            seen.append((info.node_attempt, info.node_first_attempt_time))
            if len(seen) == 1:
                raise ConnectionError("once")
            return {"out": [1]}

        made = StateGraph(State)
        made.add_node("work", fails_once, retry_policy=RetryPolicy(max_attempts=2, initial_interval=0.001))
        made.add_edge(START, "work")
        return made.compile()

    plain: list[tuple[int, float | None]] = []
    await graph(plain).ainvoke({"out": []})
    ours: list[tuple[int, float | None]] = []
    async with engine(redis_url, {"g": graph(ours)}) as eng:
        run = await eng.run("g", {"out": []})
    assert run.phase is Phase.SUCCEEDED
    for seen in (plain, ours):
        assert [number for number, _ in seen] == [1, 2]
        assert seen[0][1] is not None
        assert seen[0][1] == seen[1][1]
