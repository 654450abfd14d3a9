"""Failing nodes: retried durably, bounded in time, gone without where that is allowed, and counted."""

from __future__ import annotations

import asyncio
import operator
import os
import threading
import time
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from langgraph.channels import UntrackedValue
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, Send, interrupt

from runyard.app.shapes import reason
from runyard.engine import stale, wire
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.leases import Stop
from runyard.engine.letter import Filter, Repair
from runyard.engine.run import Phase, Run
from runyard.engine.store import runs
from tests.support.engine import Engine, engine
from tests.support.eventually import eventually_async


class State(TypedDict, total=False):
    out: Annotated[list[Any], operator.add]


def one_node(node: Any, **how: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("work", node, **how)
    graph.add_node("after", lambda state, config: {"out": [{"without": config["configurable"]["degraded"]}]})
    graph.add_edge(START, "work")
    graph.add_edge("work", "after")
    graph.add_edge("after", END)
    return graph.compile()


class Flaky:
    """Fails as often as it is told to, then succeeds; remembers the attempt numbers it was given."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.left, self.error, self.attempts = failures, error or ConnectionError("reset"), []

    async def __call__(self, _: State, runtime: Runtime) -> State:
        self.attempts.append(runtime.execution_info.node_attempt)
        if self.left:
            self.left -= 1
            raise self.error
        return {"out": ["done"]}


def at_once(attempts: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, initial_interval=0.0, jitter=False)


def patient(attempts: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, initial_interval=60.0, jitter=False)


def out_of(eng: Engine, run: Run) -> list[Any]:
    return wire.decode(eng.service.get_thread(run.thread_id).values)["out"]


def noted(eng: Engine, run: Run) -> list[dict[str, Any]]:
    return eng.sync_store.do(runs.attempts(eng.keys, run.run_id))


def make_due(eng: Engine, run: Run) -> None:
    at = eng.keys.of_run(run.run_id)
    eng.sync_store.client.zadd(at.due, {run.run_id: 0}, xx=True)


async def test_a_short_wait_is_sat_out_and_attempts_are_numbered_from_one(redis_url: str) -> None:
    flaky = Flaky(2)
    async with engine(redis_url, {"g": one_node(flaky, retry_policy=at_once(3))}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.SUCCEEDED
        assert flaky.attempts == [1, 2, 3]
        assert [(record["attempt"], record["error"]) for record in noted(eng, run)] == [
            (1, "ConnectionError"),
            (2, "ConnectionError"),
        ]


async def test_a_long_wait_frees_the_worker_and_the_count_goes_on_elsewhere(redis_url: str) -> None:
    flaky = Flaky(2)
    async with engine(redis_url, {"g": one_node(flaky, retry_policy=patient(3))}) as eng:
        run = eng.start("g", {"out": []})
        for attempt in (1, 2):
            await eng.drive()
            waiting = eng.service.get_run(run.run_id)
            assert waiting.phase is Phase.DUE
            assert waiting.status == "running"
            assert list(waiting.attempts.values()) == [attempt]
            make_due(eng, run)
            eng.recovery.sweep()
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
        assert flaky.attempts == [1, 2, 3]


async def test_exhausted_attempts_fail_the_run_with_the_nodes_own_error(redis_url: str) -> None:
    flaky = Flaky(9)
    async with engine(redis_url, {"g": one_node(flaky, retry_policy=at_once(2))}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.FAILED
        assert (run.error or {})["node"] == "work"
        assert (run.error or {})["message"] == "reset"
        assert [record["decision"] for record in noted(eng, run)] == ["again in 0.0 s", "gave up"]


async def test_what_a_provider_asks_for_is_waited_for(redis_url: str) -> None:
    request = httpx.Request("GET", "http://models.test/")
    response = httpx.Response(503, headers={"Retry-After": "120"}, request=request)
    flaky = Flaky(1, httpx.HTTPStatusError("busy", request=request, response=response))
    async with engine(redis_url, {"g": one_node(flaky, retry_policy=at_once(3))}) as eng:
        run = eng.start("g", {"out": []})
        await eng.drive()
        due_at = eng.service.get_run(run.run_id).due_at or 0
        assert 110_000 < due_at - time.time() * 1000 < 121_000


async def test_a_retry_of_one_branch_does_not_run_its_siblings_again(redis_url: str) -> None:
    executed: list[int] = []
    failing = {2}

    async def work(state: Any) -> Any:
        executed.append(state["i"])
        if state["i"] in failing:
            raise ConnectionError("reset")
        return {"out": [state["i"]]}

    graph = StateGraph(State)
    graph.add_node("plan", lambda state: {})
    graph.add_node("work", work, retry_policy=patient(3))
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("work", {"i": i}) for i in range(4)], ["work"])
    for queue in (None, "cpu"):
        executed.clear()
        failing.add(2)
        async with engine(redis_url, {"g": graph.compile()}) as eng:
            eng.worker.policies = {"g": {"work": {"queue": queue}}} if queue else {}
            run = eng.start("g", {"out": []})
            await eng.drive()
            assert eng.service.get_run(run.run_id).phase is Phase.DUE
            failing.clear()
            make_due(eng, run)
            eng.recovery.sweep()
            await eng.drive()
            assert out_of(eng, run) == [0, 1, 2, 3]
            assert sorted(executed) == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("sync", [False, True])
async def test_a_node_that_outlives_its_deadline_is_given_up(redis_url: str, sync: bool) -> None:
    async def waits(state: State) -> State:
        await asyncio.Event().wait()
        return {}

    release = asyncio.Event()

    def blocks(state: State) -> State:
        while not release.is_set():
            time.sleep(0.01)
        return {}

    async with engine(redis_url, {"g": one_node(blocks if sync else waits)}, node_deadline_s=0.2) as eng:
        run = await eng.run("g", {"out": []})
        release.set()
        assert run.phase is Phase.FAILED
        assert (run.error or {})["error"] == "NodeTimeoutError"
        assert eng.worker.abandoned == int(sync)


async def test_an_optional_node_is_gone_without_and_the_run_says_so(redis_url: str) -> None:
    policy = {"runyard": {"required": False}}
    async with engine(redis_url, {"g": one_node(Flaky(9, ValueError("dead source")), metadata=policy)}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.SUCCEEDED
        (missing,) = run.degraded
        assert (missing["node"], missing["message"], missing["instead"]) == ("work", "dead source", "nothing")
        assert out_of(eng, run)[0]["without"][0]["node"] == "work"


@pytest.mark.parametrize(
    ("fallback", "given"),
    [
        ({"value": {"out": ["constant"]}}, "constant"),
        (lambda state: {"out": ["function"]}, "function"),
        (lambda state, error: {"out": [str(error)]}, "dead model"),
    ],
)
async def test_a_fallback_takes_the_place_of_a_node(redis_url: str, fallback: Any, given: str) -> None:
    policy = {"runyard": {"fallback": fallback}}
    async with engine(redis_url, {"g": one_node(Flaky(9, ValueError("dead model")), metadata=policy)}) as eng:
        run = await eng.run("g", {"out": []})
        assert out_of(eng, run)[0] == given
        assert run.degraded[0]["instead"] == "fallback"


async def test_another_node_can_be_the_fallback(redis_url: str) -> None:
    graph = StateGraph(State)
    graph.add_node(
        "work", Flaky(9, ValueError("no")), metadata={"runyard": {"fallback": "spare"}}, destinations=("spare",)
    )
    graph.add_node("spare", lambda state: {"out": ["spare"]})
    graph.add_edge(START, "work")
    graph.add_edge("work", END)
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = await eng.run("g", {"out": []})
        assert out_of(eng, run) == ["spare"]


async def test_a_run_past_its_deadline_times_out(redis_url: str) -> None:
    async def waits(state: State) -> State:
        await asyncio.Event().wait()
        return {}

    async with engine(redis_url, {"g": one_node(waits)}) as eng:
        run = await eng.run("g", {"out": []}, timeout_s=0.2)
        assert run.status == "timeout"
        assert eng.service.get_thread(run.thread_id).status == "error"


async def test_a_run_that_leaves_a_plain_function_running_says_so(redis_url: str) -> None:
    began, release, saved = threading.Event(), threading.Event(), []

    def stubborn(_: Any) -> dict[str, Any]:
        began.set()
        release.wait(20)
        saved.append("to its end")
        return {"out": ["late"]}

    async with engine(redis_url, {"g": one_node(stubborn)}) as eng:
        run = eng.start("g", {"out": []})
        going = asyncio.create_task(eng.drive())
        await asyncio.to_thread(began.wait, 10)
        (held,) = eng.worker.keeper.in_hand()
        eng.service.cancel_run(eng.service.get_run(run.run_id))
        held.stop(Stop.CANCELLED)
        await going
        ended = eng.service.get_run(run.run_id)
        assert (ended.phase, ended.left_running) == (Phase.CANCELLED, "work")
        assert "the plain function of work goes on in its thread" in reason(ended)
        release.set()
        await eventually_async(lambda: asyncio.sleep(0, result=saved == ["to its end"]))
        state = await eng.worker.saver.aget_tuple({"configurable": {"thread_id": run.thread_id}})
        assert state is not None
        assert state.checkpoint["channel_values"]["out"] == []


async def test_a_waiting_run_past_its_deadline_is_ended_by_recovery(redis_url: str) -> None:
    async with engine(redis_url, {"g": one_node(Flaky(1), retry_policy=patient(3))}) as eng:
        run = eng.start("g", {"out": []}, timeout_s=3600)
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.DUE
        at = eng.keys.of_run(run.run_id)
        eng.sync_store.client.zadd(at.deadlines, {run.run_id: 1})
        eng.sync_store.client.hset(at.run(run.run_id), "deadline_at", 1)
        eng.recovery.sweep()
        assert eng.service.get_run(run.run_id).status == "timeout"
        assert not eng.sync_store.client.exists(at.due)


async def test_a_run_that_takes_its_workers_down_is_quarantined(redis_url: str) -> None:
    executed: list[int] = []
    async with engine(redis_url, {"g": one_node(lambda state: executed.append(1))}, max_crashes=3) as eng:
        run = eng.start("g", {"out": []})
        eng.sync_store.client.hset(eng.keys.of_run(run.run_id).run(run.run_id), "crashes", 3)
        await eng.drive()
        ended = eng.service.get_run(run.run_id)
        assert (ended.error or {})["error"] == "Quarantined"
        assert not executed


class Weather:
    """A node that can be made to fail; says what it was asked."""

    def __init__(self) -> None:
        self.is_dead, self.asked = False, 0

    def __call__(self, state: Any) -> Any:
        self.asked += 1
        if self.is_dead:
            raise ConnectionError("dead source")
        return {"out": [f"sun in {state['out'][0]}, {self.asked}"]}


async def test_the_last_good_result_stands_in_and_says_how_old_it_is(redis_url: str) -> None:
    weather = Weather()
    policy = {"runyard": {"fallback": {"stale": 3600}}}
    async with engine(redis_url, {"g": one_node(weather, metadata=policy)}) as eng:
        await eng.run("g", {"out": ["Oslo"]})
        weather.is_dead = True
        run = await eng.run("g", {"out": ["Oslo"]})
        assert run.phase is Phase.SUCCEEDED
        assert out_of(eng, run)[1] == "sun in Oslo, 1"
        (old,) = run.degraded
        assert (old["instead"], old["message"]) == ("stale", "dead source")
        assert 0 <= old["age_s"] < 60
        assert out_of(eng, run)[2]["without"][0]["age_s"] == old["age_s"]
        other = await eng.run("g", {"out": ["Rome"]})  # nothing is kept for that
        assert other.phase is Phase.FAILED
        assert (other.error or {})["message"] == "dead source"
        configured = await eng.run("g", {"out": ["Oslo"]}, config={"configurable": {"user": "another"}})
        assert configured.phase is Phase.FAILED


async def test_a_stale_result_is_too_old_one_day_and_the_next_fallback_counts(redis_url: str) -> None:
    weather = Weather()
    policy = {"runyard": {"fallback": [{"stale": {"max_age_s": 60, "key": "out"}}, {"value": {"out": ["unknown"]}}]}}
    async with engine(redis_url, {"g": one_node(weather, metadata=policy)}) as eng:
        await eng.run("g", {"out": ["Oslo"]})
        weather.is_dead = True
        assert out_of(eng, await eng.run("g", {"out": ["Oslo"]}))[1] == "sun in Oslo, 1"
        (key,) = eng.sync_store.client.keys("ry:*:stale:*:*")
        assert 0 < eng.sync_store.client.pttl(key) <= 60_000
        eng.sync_store.client.set(key, b"1 " + eng.sync_store.client.get(key).partition(b" ")[2])
        run = await eng.run("g", {"out": ["Oslo"]})
        assert out_of(eng, run)[1] == "unknown"
        assert run.degraded[0]["instead"] == "fallback"


async def test_results_of_a_node_are_kept_in_bounds(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "MOST", 3)
    monkeypatch.setattr(stale, "LARGEST", 2_000)
    policy = {"runyard": {"fallback": {"stale": 3600}}}
    async with engine(redis_url, {"g": one_node(Weather(), metadata=policy)}) as eng:
        for name in ("a", "b", "c", "d", "e", os.urandom(4_000).hex()):
            await eng.run("g", {"out": [name]})
        assert len(eng.sync_store.client.keys("ry:*:stale:*:*")) == 3


async def test_a_run_that_resumes_goes_without_what_the_one_before_went_without(redis_url: str) -> None:
    graph = StateGraph(State)
    graph.add_node("source", Flaky(9, ValueError("dead")), metadata={"runyard": {"required": False}})
    graph.add_node("ask", lambda state: {"out": [interrupt("publish?")]})
    graph.add_node("answer", lambda state, config: {"out": [p["node"] for p in config["configurable"]["degraded"]]})
    graph.add_edge(START, "source")
    graph.add_edge("source", "ask")
    graph.add_edge("ask", "answer")
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        asked = await eng.run("g", {"out": []})
        assert asked.phase is Phase.PAUSED
        run = await eng.run("g", thread_id=asked.thread_id, command={"resume": "yes"})
        assert out_of(eng, run) == ["yes", "source"]
        assert [part["node"] for part in run.degraded] == ["source"]
        fresh = await eng.run("g", {"out": []}, thread_id=asked.thread_id)
        assert len(fresh.degraded) == 1  # its own


async def test_a_parked_run_waits_for_an_operator_and_is_tried_again(redis_url: str) -> None:
    flaky = Flaky(2)
    node = one_node(flaky, retry_policy=at_once(2), metadata={"runyard": {"on_exhausted": "park"}})
    async with engine(redis_url, {"g": node}) as eng:
        run = eng.start("g", {"out": []})
        await eng.drive()
        parked = eng.service.get_run(run.run_id)
        assert parked.phase is Phase.PARKED
        assert parked.status == "running"
        (entry,) = parked.parked
        assert (entry["node"], entry["why"], entry["name"]) == ("work", "exhausted", "ConnectionError: reset")
        letters = DeadLetters(eng.service)
        (found,), _ = letters.search(Filter(node="work"))
        assert found.run_id == run.run_id
        assert letters.get(run.run_id)["message"] == "reset"
        assert letters.get(run.run_id)["phase"] == "parked"
        letters.replay(run.run_id)
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
        assert flaky.attempts == [1, 2, 1]


async def test_a_parked_nodes_output_can_be_supplied(redis_url: str) -> None:
    node = one_node(Flaky(9), metadata={"runyard": {"on_exhausted": "park", "queue": "cpu"}})
    async with engine(redis_url, {"g": node}) as eng:
        run = eng.start("g", {"out": []})
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.PARKED
        repair = Repair(output={"work": {"out": ["by hand"]}})
        DeadLetters(eng.service).replay(run.run_id, repair, eng.graphs["g"])
        await eng.drive()
        assert out_of(eng, eng.service.get_run(run.run_id))[0] == "by hand"


async def test_a_parked_node_is_tried_anew_when_its_time_has_come(redis_url: str) -> None:
    flaky = Flaky(3)
    policy = {"runyard": {"on_exhausted": "park", "park_s": 60}}
    async with engine(redis_url, {"g": one_node(flaky, retry_policy=at_once(2), metadata=policy)}) as eng:
        run = eng.start("g", {"out": []})
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.PARKED
        make_due(eng, run)
        eng.recovery.sweep()
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
        assert flaky.attempts == [1, 2, 3, 4]  # two, and after the pause two more were allowed


async def test_a_parked_run_can_be_cancelled_and_is_over_at_its_deadline(redis_url: str) -> None:
    node = one_node(Flaky(9), metadata={"runyard": {"on_exhausted": "park"}})
    async with engine(redis_url, {"g": node}) as eng:
        run = eng.start("g", {"out": []})
        await eng.drive()
        eng.service.cancel_run(eng.service.get_run(run.run_id))
        assert eng.service.get_run(run.run_id).phase is Phase.CANCELLED
        assert DeadLetters(eng.service).search() == ([], 0)
        second = eng.start("g", {"out": []})
        await eng.drive()
        at = eng.keys.of_run(second.run_id)
        eng.sync_store.client.zadd(at.deadlines, {second.run_id: 1})
        eng.sync_store.client.hset(at.run(second.run_id), "deadline_at", 1)
        eng.recovery.sweep()
        assert eng.service.get_run(second.run_id).status == "timeout"
        assert [letter.run_id for letter in DeadLetters(eng.service).search()[0]] == [second.run_id]


async def test_what_langgraph_never_saves_is_still_there_after_the_wait_for_a_retry(redis_url: str) -> None:
    class Holding(TypedDict):
        handle: Annotated[str, UntrackedValue]
        out: list[str]

    flaky = Flaky(1)

    async def use(state: Holding, runtime: Runtime) -> Any:
        await flaky(state, runtime)  # type: ignore[arg-type]
        return {"out": [state["handle"]]}

    graph = StateGraph(Holding)
    graph.add_node("open", lambda _: {"handle": "a connection"})
    graph.add_node("use", use, retry_policy=RetryPolicy(initial_interval=1.1, jitter=False))  # longer than a moment
    graph.add_edge(START, "open")
    graph.add_edge("open", "use")
    async with engine(redis_url, {"g": graph.compile()}, quantum_s=0) as eng:
        run = await eng.run("g", {"out": []})
        assert (run.status, out_of(eng, run), run.slices) == ("success", ["a connection"], 1)


async def test_a_supplied_output_that_only_the_edges_refuse_fails_the_node_by_name(redis_url: str) -> None:
    graph = StateGraph(State)
    graph.add_node("work", Flaky(9))
    graph.add_conditional_edges("work", lambda state: {"right": END}[state["out"][0]])
    graph.add_edge(START, "work")
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = await eng.run("g", {"out": []})
        letters = DeadLetters(eng.service)
        letters.replay(run.run_id, Repair(output={"work": {"out": ["wrong"]}}), eng.graphs["g"])
        await eng.drive()
        again = letters.get(run.run_id)
        assert (again["node"], again["error"]) == ("work", "KeyError")
        letters.replay(run.run_id, Repair(output={"work": {"out": ["right"]}}), eng.graphs["g"])
        await eng.drive()
        assert out_of(eng, eng.service.get_run(run.run_id))[0] == "right"


async def test_a_conditional_edge_that_fails_is_tried_again_by_a_replay_with_its_node(redis_url: str) -> None:
    broken = [True]

    def router(state: State) -> str:
        if broken.pop() if broken else False:
            raise KeyError("the router")
        return "after"

    graph = StateGraph(State)
    graph.add_node("work", lambda state: {"out": ["work"]})
    graph.add_node("after", lambda state: {"out": ["after"]})
    graph.add_edge(START, "work")
    graph.add_conditional_edges("work", router, ["after"])
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.FAILED
        DeadLetters(eng.service).replay(run.run_id)
        await eng.drive()
        assert eng.service.get_run(run.run_id).status == "success"
        assert out_of(eng, run) == ["work", "after"]
