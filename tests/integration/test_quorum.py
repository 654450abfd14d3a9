"""Fan-outs that need not be complete: k of n, and so many seconds more for the rest."""

from __future__ import annotations

import asyncio
import operator
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, RetryPolicy, Send, interrupt

from runyard.engine import state, wire
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.run import Phase, Run
from tests.support.engine import Engine, engine

WHERE = pytest.mark.parametrize("queue", [None, "cpu"])


class State(TypedDict, total=False):
    items: list[Any]
    out: Annotated[list[Any], operator.add]


class Source:
    """What the tasks of the fan-out do: item by item, a function that gives or raises; the rest give their item."""

    def __init__(self, **does: Callable[[], Any]) -> None:
        self.does = does
        self.executed: list[str] = []

    async def __call__(self, given: Any) -> Any:
        item = given["item"]
        self.executed.append(item)
        made = self.does[item]() if item in self.does else item
        return {"out": [await made if asyncio.iscoroutine(made) else made]}


def raises(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def hangs() -> Any:
    return asyncio.Event().wait()


def fan(work: Any, *, queue: str | None = None, cache: Any = None, then: Any = None, **policy: Any) -> Any:
    """plan -> work (one task for each item) -> after, which tells what is missing."""
    retry = policy.pop("retry", None)
    graph = StateGraph(State)
    graph.add_node("plan", lambda state: {})
    told = {"runyard": {**policy, **({"queue": queue} if queue else {})}}
    graph.add_node("work", work, metadata=told, retry_policy=retry, cache_policy=CachePolicy() if cache else None)
    graph.add_node("after", then or missing_in)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("work", {"item": i}) for i in state["items"]], ["work"])
    graph.add_edge("work", "after")
    graph.add_edge("after", END)
    return graph.compile(cache=cache)


def missing_in(_: State, config: RunnableConfig) -> State:
    missing = config["configurable"].get("degraded", [])
    return {"out": [{"without": sorted(part["input"]["item"] for part in missing)}]}


def out_of(eng: Engine, run: Run) -> list[Any]:
    return wire.decode(eng.service.get_thread(run.thread_id).values)["out"]


def patient(attempts: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, initial_interval=60.0, jitter=False)


def make_due(eng: Engine, run: Run) -> None:
    eng.sync_store.client.zadd(eng.keys.of_run(run.run_id).due, {run.run_id: 0}, xx=True)


@asynccontextmanager
async def looked_after(eng: Engine) -> AsyncIterator[None]:
    """Recovery and the keeper of leases, as in a worker."""
    eng.worker.keeper.start()
    over = asyncio.Event()

    async def sweep() -> None:
        while not over.is_set():
            await asyncio.to_thread(eng.recovery.sweep)
            await asyncio.sleep(0.02)
            await eng.drive()

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        over.set()
        await sweeping
        await asyncio.to_thread(eng.worker.keeper.stop)


async def finished(eng: Engine, run: Run) -> Run:
    """Let the fleet work until the run has ended."""
    async with asyncio.timeout(20), looked_after(eng):
        await eng.drive()
        await _until(lambda: eng.service.get_run(run.run_id).ended_at is not None)
    return eng.service.get_run(run.run_id)


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.02)


@WHERE
async def test_enough_answers_are_an_answer_and_the_missing_part_is_told(redis_url: str, queue: str | None) -> None:
    work = Source(b=raises(ValueError("dead source")))
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum=2)}) as eng:
        run = await eng.run("g", {"items": ["a", "b", "c"], "out": []})
        assert run.phase is Phase.SUCCEEDED
        assert out_of(eng, run) == ["a", "c", {"without": ["b"]}]
        (missing,) = run.degraded
        assert (missing["node"], missing["error"], missing["message"]) == ("work", "ValueError", "dead source")
        assert (missing["instead"], missing["input"]) == ("nothing", {"item": "b"})
        assert sorted(work.executed) == ["a", "b", "c"]


@WHERE
async def test_too_few_answers_fail_the_run_and_a_replay_tries_all_that_failed(
    redis_url: str, queue: str | None
) -> None:
    work = Source(b=raises(ValueError("dead")), c=raises(ValueError("dead")))
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum="67%")}) as eng:
        run = await eng.run("g", {"items": ["a", "b", "c", "d"], "out": []})
        assert run.phase is Phase.FAILED
        assert (run.error or {})["message"] == "dead"
        assert (run.error or {})["node"] == "work"
        assert not run.degraded  # nothing was given up that can still be repaired
        parts = state.partial(eng.graphs["g"], eng.service.saver, run)
        assert sorted(part["status"] for part in parts) == ["done", "done", "done", "failed", "failed"]
        work.does.clear()
        work.executed.clear()
        DeadLetters(eng.service).replay(run.run_id)
        run = await finished(eng, run)
        assert out_of(eng, run) == ["a", "b", "c", "d", {"without": []}]
        assert sorted(work.executed) == ["b", "c"]


@WHERE
async def test_the_rest_is_cut_off_when_its_time_is_over(redis_url: str, queue: str | None) -> None:
    work = Source(b=hangs, d=raises(ValueError("dead")))
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum=2, rest_s=0.3)}) as eng:
        run = eng.start("g", {"items": ["a", "b", "c", "d"], "out": []})
        began = time.monotonic()
        run = await finished(eng, run)
        assert time.monotonic() - began < 5
        assert run.phase is Phase.SUCCEEDED
        assert out_of(eng, run) == ["a", "c", {"without": ["b", "d"]}]
        assert {part["error"] for part in run.degraded} == {"CutOff", "ValueError"}
        (cut,) = [part for part in run.degraded if part["error"] == "CutOff"]
        assert "2 of 4 had answered and 2 were needed; 0.3 s later" in cut["message"]
        assert sorted(work.executed) == ["a", "b", "c", "d"]


async def test_a_plain_function_that_is_cut_off_is_abandoned(redis_url: str) -> None:
    release = threading.Event()

    def work(given: Any) -> Any:
        if given["item"] == "b":
            release.wait(20)
        return {"out": [given["item"]]}

    async with engine(redis_url, {"g": fan(work, quorum=1, rest_s=0.1)}) as eng:
        run = await eng.run("g", {"items": ["a", "b"], "out": []})
        release.set()
        assert out_of(eng, run) == ["a", {"without": ["b"]}]
        assert eng.worker.abandoned == 1


@WHERE
async def test_without_a_limit_the_rest_has_as_long_as_it_takes(redis_url: str, queue: str | None) -> None:
    work = Source(b=lambda: asyncio.sleep(0.3, "b"))
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum=1)}) as eng:
        run = await eng.run("g", {"items": ["a", "b"], "out": []})
        assert out_of(eng, run) == ["a", "b", {"without": []}]


@WHERE
async def test_a_part_that_waits_for_its_next_attempt_is_not_waited_for_longer(
    redis_url: str, queue: str | None
) -> None:
    work = Source(b=raises(ConnectionError("reset")), c=raises(ValueError("dead")))
    retry = RetryPolicy(max_attempts=3, initial_interval=60.0, jitter=False, retry_on=ConnectionError)
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum=1, rest_s=0.2, retry=retry)}) as eng:
        run = eng.start("g", {"items": ["a", "b", "c"], "out": []})
        run = await finished(eng, run)
        assert out_of(eng, run) == ["a", {"without": ["b", "c"]}]
        assert sorted(work.executed) == ["a", "b", "c"]
        assert {part["error"] for part in run.degraded} == {"CutOff", "ValueError"}


@WHERE
async def test_a_part_that_failed_waits_for_the_verdict_over_retries_and_is_not_run_again(
    redis_url: str, queue: str | None
) -> None:
    """b has failed for good, and whether that matters is known only when c has had its next attempt."""
    work = Source(b=raises(ValueError("dead")), c=raises(ConnectionError("reset")))
    retry = RetryPolicy(max_attempts=3, initial_interval=60.0, jitter=False, retry_on=ConnectionError)
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum=2, retry=retry)}) as eng:
        run = eng.start("g", {"items": ["a", "b", "c"], "out": []})
        await eng.drive()
        waiting = eng.service.get_run(run.run_id)
        assert waiting.phase is Phase.DUE
        assert [part["message"] for part in waiting.parts.values()] == ["dead"]
        assert not waiting.degraded
        work.does.pop("c")
        make_due(eng, run)
        eng.recovery.sweep()
        run = await finished(eng, run)
        assert out_of(eng, run) == ["a", "c", {"without": ["b"]}]
        assert sorted(work.executed) == ["a", "b", "c", "c"]


@WHERE
async def test_a_lost_quorum_over_retries_fails_with_the_nodes_own_error(redis_url: str, queue: str | None) -> None:
    work = Source(b=raises(KeyError("dead")), c=raises(ConnectionError("reset")))
    retry = RetryPolicy(max_attempts=2, initial_interval=60.0, jitter=False, retry_on=ConnectionError)
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum=2, retry=retry)}) as eng:
        run = eng.start("g", {"items": ["a", "b", "c"], "out": []})
        await eng.drive()
        make_due(eng, run)
        eng.recovery.sweep()
        run = await finished(eng, run)
        assert run.phase is Phase.FAILED
        assert (run.error or {})["error"] in ("KeyError", "ConnectionError")
        failed = [p for p in state.partial(eng.graphs["g"], eng.service.saver, run) if p["status"] == "failed"]
        assert len(failed) == 2
        assert any("KeyError" in part["error"] for part in failed)


async def test_a_run_woken_for_its_rest_does_not_try_others_early(redis_url: str) -> None:
    """A retry that waits an hour waits it, whatever else the run is woken for."""
    work = Source(b=hangs)
    other = Source(x=raises(ConnectionError("reset")))
    graph = StateGraph(State)
    graph.add_node("plan", lambda state: {})
    graph.add_node("work", work, metadata={"runyard": {"quorum": 1, "rest_s": 0.2, "queue": "cpu"}})
    graph.add_node("other", other, retry_policy=patient(3))
    graph.add_edge(START, "plan")
    sends = [Send("work", {"item": "a"}), Send("work", {"item": "b"}), Send("other", {"item": "x"})]
    graph.add_conditional_edges("plan", lambda state: sends, ["work", "other"])
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = eng.start("g", {"items": [], "out": []})
        async with asyncio.timeout(20), looked_after(eng):
            await eng.drive()
            await _until(lambda: eng.service.get_run(run.run_id).phase is Phase.DUE)
        waiting = eng.service.get_run(run.run_id)
        assert [part["error"] for part in waiting.degraded] == ["CutOff"]
        assert (waiting.due_at or 0) > time.time() * 1000 + 50_000
        assert other.executed == ["x"]


async def test_nodes_of_a_group_are_one_fan_out(redis_url: str) -> None:
    def dead(_: State) -> State:
        raise ValueError("dead")

    def missing(_: State, config: RunnableConfig) -> State:
        return {"out": [part["node"] for part in config["configurable"]["degraded"]]}

    policy = {"runyard": {"quorum": 2, "group": "sources"}}
    graph = StateGraph(State)
    graph.add_node("wiki", lambda state: {"out": ["wiki"]}, metadata=policy)
    graph.add_node("mail", dead, metadata=policy)
    graph.add_node("news", lambda state: {"out": ["news"]}, metadata=policy)
    graph.add_node("after", missing)
    for name in ("wiki", "mail", "news"):
        graph.add_edge(START, name)
    graph.add_edge(["wiki", "mail", "news"], "after")
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = await eng.run("g", {"out": []})
        assert out_of(eng, run) == ["news", "wiki", "mail"]


async def test_few_at_a_time_do_not_wait_for_each_other(redis_url: str) -> None:
    work = Source(a=raises(ValueError("dead")), b=raises(ValueError("dead")))
    async with engine(redis_url, {"g": fan(work, quorum=1)}) as eng:
        run = await eng.run("g", {"items": ["a", "b", "c"], "out": []}, config={"max_concurrency": 1})
        assert out_of(eng, run) == ["c", {"without": ["a", "b"]}]


async def test_what_the_cache_knows_has_answered(redis_url: str) -> None:
    cache = InMemoryCache()
    work = Source()
    graph = fan(work, cache=cache, quorum=2)
    async with engine(redis_url, {"g": graph}) as eng:
        await eng.run("g", {"items": ["a", "b"], "out": []})
        work.does["c"] = raises(ValueError("dead"))
        run = await eng.run("g", {"items": ["a", "b", "c"], "out": []})
        assert out_of(eng, run) == ["a", "b", {"without": ["c"]}]


@WHERE
async def test_a_part_that_asks_a_person_pauses_the_run(redis_url: str, queue: str | None) -> None:
    work = Source(b=lambda: interrupt("which b?"), c=raises(ValueError("dead")))
    async with engine(redis_url, {"g": fan(work, queue=queue, quorum=2)}) as eng:
        run = await eng.run("g", {"items": ["a", "b", "c"], "out": []})
        assert run.phase is Phase.PAUSED
        resumed = await eng.run("g", thread_id=run.thread_id, command={"resume": "B"})
        assert resumed.phase is Phase.SUCCEEDED
        assert out_of(eng, resumed) == ["a", "B", {"without": ["c"]}]


async def test_a_fallback_counts_as_an_answer(redis_url: str) -> None:
    work = Source(b=raises(ValueError("dead")), c=hangs)
    graph = fan(work, quorum=2, rest_s=0.1, fallback=lambda given: {"out": [f"kept {given['item']}"]})
    async with engine(redis_url, {"g": graph}) as eng:
        run = await eng.run("g", {"items": ["a", "b", "c"], "out": []})
        assert out_of(eng, run)[:3] == ["a", "kept b", "kept c"]
        assert {part["instead"] for part in run.degraded} == {"fallback"}


@pytest.mark.parametrize("quorum", [2, "100%"])
@WHERE
async def test_when_nothing_fails_it_is_as_in_langgraph(redis_url: str, queue: str | None, quorum: Any) -> None:
    def after(state: State) -> State:
        return {"out": [len(state["out"])]}

    graph = fan(Source(), queue=queue, quorum=quorum, rest_s=30, then=after)
    plain = fan(Source(), then=after)
    plain.checkpointer = InMemorySaver()
    told = await plain.ainvoke({"items": ["a", "b", "c"], "out": []}, {"configurable": {"thread_id": "t"}})
    async with engine(redis_url, {"g": graph}) as eng:
        run = await eng.run("g", {"items": ["a", "b", "c"], "out": []})
        assert out_of(eng, run) == told["out"]
        assert not run.degraded
