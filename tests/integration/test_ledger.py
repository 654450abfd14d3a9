"""The ledger: what ran, which way, with what, written with what it is about, and nothing secret in it."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, RetryPolicy, Send, interrupt

from runyard.engine import records
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.ledger import ModelCall
from runyard.engine.letter import Repair
from runyard.engine.prices import Prices
from runyard.engine.record import FIELDS
from runyard.engine.run import Phase, Run
from runyard.engine.store.client import Call
from runyard.engine.store.save import part_names
from tests.support.engine import Engine, engine
from tests.support.eventually import eventually_async

Json = dict[str, Any]
PLANTED = "sk-planted1234567890abcd"


class State(TypedDict, total=False):
    out: Annotated[list[Any], operator.add]
    messages: Annotated[list[Any], operator.add]


def ledger_of(eng: Engine, run: Run, **wanted: Any) -> list[Json]:
    return list(records.read(eng.sync_store, eng.keys, run, records.Filter(**wanted)))


def seen(found: list[Json], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(record[name] for name in fields) for record in found]


def chain(**nodes: Any) -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(State)
    before = START
    for name, node in nodes.items():
        how = node if isinstance(node, dict) else {"node": node}
        graph.add_node(name, how.pop("node"), **how)
        graph.add_edge(before, name)
        before = name
    return graph


@tool
def look_up(word: str, api_key: str = "") -> list[str]:
    """Find a word."""
    return [word, word.upper()]


@tool
async def look_up_async(word: str) -> str:
    """Find a word."""
    if word == "nothing":
        raise LookupError(f"no such word; token={PLANTED}")
    return word


def model() -> Any:
    usage = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
    said = AIMessage("hello", usage_metadata=usage, response_metadata={"model_name": "small-1"})
    return GenericFakeChatModel(messages=iter([said] * 99))


async def test_each_attempt_has_a_record_with_every_field(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain(a=lambda _: {"out": [1]}, b=lambda _: {"out": [2]}).compile()}) as eng:
        run = eng.start("g", {"out": []})
        at = eng.keys.of_run(run.run_id)
        eng.sync_store.client.zincrby(at.waiting, -5_000, run.run_id)
        await eng.drive()
        found = ledger_of(eng, run)
    assert seen(found, "kind", "node", "step", "attempt", "status", "slice") == [
        ("attempt", "a", 1, 1, "ok", 1),
        ("attempt", "b", 2, 1, "ok", 1),
    ]
    first = found[0]
    assert tuple(first) == FIELDS
    assert (first["run_id"], first["thread_id"], first["graph"]) == (run.run_id, run.thread_id, "g")
    assert (first["worker"], first["trace_id"]) == ("first", run.run_id.replace("-", ""))
    assert first["latency_ms"] >= 0
    assert first["queue_ms"] >= 5_000  # the wait of the first node is that of its slice
    assert found[1]["queue_ms"] == 0
    assert first["result_count"] == 1
    assert abs(first["timestamp"] - time.time() * 1000) < 60_000
    assert [first[name] for name in ("tool", "args", "tokens_used", "cost", "decision", "error")] == [None] * 6


async def test_tools_and_models_are_seen_wherever_they_are_called(redis_url: str) -> None:
    async def several(_: State) -> State:
        await asyncio.gather(look_up_async.ainvoke({"word": "x"}), look_up_async.ainvoke({"word": "y"}))
        return {"out": [(await model().ainvoke("hi")).content]}

    def plain(_: State) -> State:
        model().invoke("hi")
        return {"out": look_up.invoke({"word": "z", "api_key": "hidden-by-its-name"})}

    inner = chain(deep=plain).compile()
    calls = AIMessage("", tool_calls=[{"name": "look_up", "args": {"word": w}, "id": w} for w in "pq"])
    graph = chain(
        several=several, plain=plain, ask=lambda _: {"messages": [calls]}, tools=ToolNode([look_up]), sub=inner
    )
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        eng.worker.prices = Prices({"small-*": {"in": 1, "out": 2}})
        run = await eng.run("g", {"out": [], "messages": []})
        assert run.phase is Phase.SUCCEEDED
        found = ledger_of(eng, run)
    tools = [record for record in found if record["kind"] == "tool"]
    assert sorted(seen(tools, "node", "tool", "attempt", "result_count")) == [
        ("plain", "look_up", 1, 2), ("several", "look_up_async", 1, 1), ("several", "look_up_async", 1, 1),
        ("sub/deep", "look_up", 1, 2), ("tools", "look_up", 1, 1), ("tools", "look_up", 1, 1),
    ]  # fmt: skip
    models = [record for record in found if record["kind"] == "model"]
    used = {"in": 1000, "out": 500, "by_model": {"small-1": {"in": 1000, "out": 500}}}
    assert seen(models, "node", "tool", "tokens_used", "cost") == [
        ("several", "small-1", used, 0.002), ("plain", "small-1", used, 0.002), ("sub/deep", "small-1", used, 0.002),
    ]  # fmt: skip
    by_node = {record["node"]: record for record in found if record["kind"] == "attempt"}
    assert list(by_node) == ["several", "plain", "ask", "tools", "sub/deep", "sub"]
    assert by_node["sub"]["cost"] == 0.002
    assert by_node["sub"]["tokens_used"] == used
    given = next(record["args"] for record in tools if record["node"] == "plain")
    assert given == {"word": "z", "api_key": "[redacted]"}


async def test_every_choice_of_a_way_is_a_decision(redis_url: str) -> None:
    inner: StateGraph[Any] = chain(first=lambda _: {"out": ["i"]})
    inner.add_node("second", lambda _: {"out": ["j"]})
    inner.add_conditional_edges("first", lambda _: "on", {"on": "second", "off": END})
    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("fan", lambda _: {"out": ["x"]})
    graph.add_node("jump", lambda _: Command(goto="sub", update={"out": ["y"]}))
    graph.add_node("leaf", lambda _: {"out": ["z"]})
    graph.add_node("sub", inner.compile())

    def entry(_: State) -> str:
        return "fan"

    def spread(_: State) -> list[Any]:
        return [Send("leaf", {}), Send("leaf", {}), "jump"]

    def last(_: State) -> str:
        return END

    graph.add_conditional_edges(START, entry, ["fan"])
    graph.add_conditional_edges("fan", spread, ["leaf", "jump"])
    graph.add_conditional_edges("sub", last, [END, "fan"])
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = await eng.run("g", {"out": []})
        found = ledger_of(eng, run, kind="decision")
    assert seen(found, "node", "decision", "args", "result_count") == [
        ("__start__", "fan", {"router": "entry"}, 1),
        ("fan", "leaf ×2, jump", {"router": "spread"}, 3),
        ("jump", "sub", {"command": "goto"}, 1),
        ("sub/first", "on", {"router": "router"}, 1),
        ("sub", "END", {"router": "last"}, 1),
    ]


async def test_failures_retries_timeouts_and_questions_are_recorded(redis_url: str) -> None:
    left = [2]

    def flaky(_: State) -> State:
        if left[0]:
            left[0] -= 1
            raise ConnectionError(f"refused, key {PLANTED}")
        return {"out": ["ok"]}

    async def slow(_: State) -> State:
        await asyncio.sleep(60)
        return {}

    retried = RetryPolicy(max_attempts=3, initial_interval=0, jitter=False)
    graph = chain(
        flaky={"node": flaky, "retry_policy": retried},
        asks=lambda _: {"out": [interrupt("may I?")]},
        slow={"node": slow, "metadata": {"runyard": {"deadline_s": 0.05, "required": False}}},
    ).compile()
    async with engine(redis_url, {"g": graph}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.PAUSED
        first = ledger_of(eng, run)
        again = await eng.run("g", None, thread_id=run.thread_id, command={"resume": "yes"})
        second = ledger_of(eng, again)
    fields = ("node", "attempt", "status", "error", "decision")
    assert seen(first, *fields) == [
        ("flaky", 1, "error", "ConnectionError: refused, key [redacted]", "again in 0.0 s"),
        ("flaky", 2, "error", "ConnectionError: refused, key [redacted]", "again in 0.0 s"),
        ("flaky", 3, "ok", None, None),
        ("asks", 1, "interrupted", None, None),
    ]
    assert seen(second, *fields)[:1] == [("asks", 1, "ok", None, None)]
    timed = second[1]
    assert (timed["node"], timed["status"], timed["decision"]) == ("slow", "timeout", "gave up; nothing in its place")
    assert timed["latency_ms"] >= 50


async def test_what_a_dead_worker_had_in_hand_is_recorded_by_the_next(redis_url: str) -> None:
    reached = asyncio.Event()

    async def hangs_once(_: State) -> State:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        return {"out": ["done"]}

    graph = chain(a=lambda _: {"out": [1]}, b=hangs_once).compile()
    async with engine(redis_url, {"g": graph}, lease_s=0.05) as eng:
        run = eng.start("g", {"out": []})
        dying = asyncio.create_task(eng.carry_out(eng.wakes.popleft()))
        await reached.wait()
        expired = eng.sync_store.client.zscore(eng.keys.of_run(run.run_id).leases, run.run_id)
        assert expired is not None
        eng.sync_store.client.zadd(eng.keys.of_run(run.run_id).leases, {run.run_id: 1})
        eng.recovery.sweep()
        await eng.drive()
        dying.cancel()
        await asyncio.wait([dying])
        found = ledger_of(eng, run)
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
    assert seen(found, "node", "attempt", "status", "slice") == [
        ("a", 1, "ok", 1),
        ("b", 1, "lost", 1),
        ("b", 1, "ok", 2),
    ]


def begun(times: list[Any], before: int) -> Callable[[], Awaitable[bool]]:
    async def more() -> bool:
        return len(times) > before

    return more


async def test_who_takes_a_run_from_a_dead_worker_says_so_before_the_node_can_kill_it_too(redis_url: str) -> None:
    """The records of a slice that is killed at once go with it, and a quarantined run would not say where it stood."""
    seen_at_start: list[Any] = []

    async def poison(_: State) -> State:
        seen_at_start.append(seen(ledger_of(eng, run), "node", "status"))
        await asyncio.Event().wait()
        return {"out": []}

    async with engine(redis_url, {"g": chain(poison=poison).compile()}) as eng:
        run = eng.start("g", {"out": []})
        dying = []
        for number in range(2):
            dying.append(asyncio.create_task(eng.carry_out(eng.wakes.popleft())))
            await eventually_async(begun(seen_at_start, number), what="the node has begun")
            eng.sync_store.client.zadd(eng.keys.of_run(run.run_id).leases, {run.run_id: 1})
            eng.recovery.sweep()
        for task in dying:
            task.cancel()
        await asyncio.wait(dying)
    assert seen_at_start == [[], [("poison", "lost")]]


async def test_a_replay_does_not_say_that_a_worker_has_died(redis_url: str) -> None:
    fails = [1]

    def once_bad(_: State) -> State:
        if fails:
            fails.pop()
            raise ValueError("no")
        return {"out": ["done"]}

    async with engine(redis_url, {"g": chain(a=once_bad).compile()}) as eng:
        run = await eng.run("g", {"out": []})
        DeadLetters(eng.service).replay(run.run_id, Repair())
        await eng.drive()
        assert seen(ledger_of(eng, run), "attempt", "status", "slice") == [(1, "error", 1), (1, "ok", 2)]


async def test_records_ride_with_what_they_are_about(redis_url: str) -> None:
    graph = chain(**{f"n{i}": lambda _: {"out": [1]} for i in range(5)}).compile()
    async with engine(redis_url, {"g": graph}) as eng:
        saved: list[list[str]] = []
        send = eng.worker.store.send

        def watched(call: Call[Any]) -> asyncio.Future[Any]:
            if call.script is not None and call.script.name in ("save", "end_run"):
                saved.append(part_names(call))
            return send(call)

        eng.worker.store.send = watched  # type: ignore[method-assign]
        eng.worker.hold_s = 1.0  # however slow the machine
        run = await eng.run("g", {"out": []})
        assert len(ledger_of(eng, run)) == 5
        assert len(saved) == 6  # the input, four supersteps, and the fifth with the run's end
    with_records = [names for names in saved if "records" in names]
    assert len(with_records) == 5
    for names in with_records:  # before what they are about, in the same script
        assert names[:3] == ["records", "writes", "checkpoint"]


async def test_without_a_ledger_nothing_is_written(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain(a=lambda _: {"out": [1]}).compile()}, ledger="off") as eng:
        run = await eng.run("g", {"out": []})
        assert ledger_of(eng, run) == []


async def test_the_records_of_a_long_node_are_seen_while_it_runs(redis_url: str) -> None:
    called, go_on = asyncio.Event(), asyncio.Event()

    async def long(_: State) -> State:
        await look_up_async.ainvoke({"word": "x"})
        with contextlib.suppress(LookupError):
            await look_up_async.ainvoke({"word": "nothing"})
        called.set()
        await go_on.wait()
        return {}

    async with engine(redis_url, {"g": chain(long=long).compile()}) as eng:
        run = eng.start("g", {"out": []})
        going = asyncio.create_task(eng.drive())
        await called.wait()

        async def both() -> bool:
            return len(ledger_of(eng, run)) == 2

        await eventually_async(both)
        found = ledger_of(eng, run)
        go_on.set()
        await going
        assert len(ledger_of(eng, run)) == 3
    assert seen(found, "tool", "status") == [("look_up_async", "ok"), ("look_up_async", "error")]
    assert found[1]["error"] == "LookupError: no such word; token=[redacted]"


async def test_who_keeps_a_budget_is_told_of_every_model_call(redis_url: str) -> None:
    def asks(_: State) -> State:
        model().invoke("hi")
        return {}

    told: list[ModelCall] = []
    async with engine(redis_url, {"g": chain(asks=asks).compile()}) as eng:
        eng.worker.prices = Prices({"small-1": {"in": 3, "out": 0}})
        eng.worker.on_model_call = (told.append,)
        await eng.run("g", {"out": []})
    (call,) = told
    assert (call.model, call.tokens_in, call.tokens_out, call.cost, call.node) == ("small-1", 1000, 500, 0.003, "asks")


async def test_records_are_bounded_and_go_with_the_run(redis_url: str) -> None:
    def chatty(_: State) -> State:
        for _ in range(500):
            look_up.invoke({"word": "x"})
        return {}

    async with engine(redis_url, {"g": chain(chatty=chatty).compile()}, max_records=100) as eng:
        run = await eng.run("g", {"out": []})
        assert 100 <= len(ledger_of(eng, run)) <= 250
        eng.service.delete_run(run)
        assert eng.sync_store.client.keys("*records*") == []


async def test_pages_follow_one_another_and_filters_hold(redis_url: str) -> None:
    graph = chain(**{f"n{i}": lambda _: {"out": [1]} for i in range(7)}).compile()
    async with engine(redis_url, {"g": graph}) as eng:
        run = await eng.run("g", {"out": []})
        found: list[list[str]] = []
        after: str | None = records.START
        while after is not None:
            part, after = records.page(eng.sync_store, eng.keys, run, after=after, limit=3)
            found.append([record["node"] for record in part])
        assert found == [["n0", "n1", "n2"], ["n3", "n4", "n5"], ["n6"]]
        assert seen(ledger_of(eng, run, node="n4"), "node") == [("n4",)]
        assert ledger_of(eng, run, status="error") == ledger_of(eng, run, kind="tool") == []


async def test_nodes_of_other_queues_and_of_later_slices_are_in_the_same_ledger(redis_url: str) -> None:
    away = {"node": lambda _: {"out": [2]}, "metadata": {"runyard": {"queue": "elsewhere"}}}
    graph = chain(home=lambda _: {"out": [1]}, away=away, back=lambda _: {"out": [3]}).compile()
    async with engine(redis_url, {"g": graph}, quantum_s=0) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.SUCCEEDED
        found = ledger_of(eng, run)
    assert seen(found, "node", "status", "step") == [("home", "ok", 1), ("away", "ok", 2), ("back", "ok", 3)]
    assert seen(found, "slice") == [(1,), (3,), (3,)]  # what was handed away counts with the slice that gathers it
    assert len({record["trace_id"] for record in found}) == 1
