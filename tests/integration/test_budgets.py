"""Budgets: counted over slices, threads and days, stopped at the edge, granted more by an answer."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from runyard.engine import wire
from runyard.engine.bounds import Bound, bound_of
from runyard.engine.budget import Budget, budgets_of, grant_of
from runyard.engine.errors import ConfigError
from runyard.engine.run import Phase, Run
from runyard.engine.store import spending
from tests.support.engine import Engine, engine


class State(TypedDict, total=False):
    n: int
    out: Annotated[list[Any], operator.add]


class Model(BaseChatModel):
    """Answers at once, and says that it took a hundred tokens."""

    calls: list[int] = []  # noqa: RUF012 - a pydantic field: each instance has its own

    @property
    def _llm_type(self) -> str:
        return "counted"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any) -> ChatResult:  # noqa: ARG002
        self.calls.append(1)
        used = {"input_tokens": 60, "output_tokens": 40, "total_tokens": 100}
        message = AIMessage("yes", usage_metadata=used, response_metadata={"model_name": "counted"})
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def look(word: str) -> str:
    """Look something up."""
    return word


class Slow(Model):
    """Takes a while, so that calls meet; says how many were under way at once."""

    now: int = 0
    most: int = 0

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any) -> ChatResult:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.03)
        self.now -= 1
        return self._generate(messages, stop, run_manager, **more)


class Threaded(Slow):
    """The same in threads."""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any) -> ChatResult:
        threading.Event().wait(0.03)
        return super()._generate(messages, stop, run_manager, **more)


def spread(model: Model, width: int, *, plain: bool = False, elsewhere: bool = False, **asked: Any) -> Any:
    """A fan-out in which each branch asks the model twice."""

    async def ask(_: Any) -> State:
        return {"out": [(await model.ainvoke("?", **asked), await model.ainvoke("?", **asked))[0].content]}

    def ask_plainly(_: Any) -> State:
        return {"out": [(model.invoke("?", **asked), model.invoke("?", **asked))[0].content]}

    graph = StateGraph(State)
    metadata = {"runyard": {"queue": "other"}} if elsewhere else None
    graph.add_node("ask", ask_plainly if plain else ask, metadata=metadata)
    graph.add_conditional_edges(START, lambda state: [Send("ask", state) for _ in range(width)], ["ask"])
    graph.add_edge("ask", END)
    return graph.compile()


def asking(model: Model, *, plain: bool = False) -> Any:
    """A loop that asks the model ``n`` times, once in each superstep."""

    async def ask(_: State) -> State:
        await model.ainvoke("?")
        return {"out": ["asked"]}

    def ask_plainly(_: State) -> State:
        model.invoke("?")
        return {"out": ["asked"]}

    graph = StateGraph(State)
    graph.add_node("ask", ask_plainly if plain else ask)
    graph.add_edge(START, "ask")
    graph.add_conditional_edges("ask", lambda state: "ask" if len(state["out"]) < state["n"] else END, ["ask", END])
    return graph.compile()


def out_of(eng: Engine, run: Run) -> list[Any]:
    return wire.decode(eng.service.get_thread(run.thread_id).values)["out"]


def question(eng: Engine, run: Run) -> dict[str, Any]:
    """What the run's thread asks."""
    [[asked]] = eng.service.get_thread(run.thread_id).interrupts.values()
    return asked["value"]


async def go_on(eng: Engine, run: Run, answer: Any) -> Run:
    return await eng.run("g", None, thread_id=run.thread_id, command={"resume": answer})


@pytest.mark.parametrize("plain", [False, True])
async def test_a_run_pauses_at_the_edge_and_asks_for_more(redis_url: str, plain: bool) -> None:
    model = Model()
    budget = {"budgets": {"run": {"tokens": 250}}}
    async with engine(redis_url, {"g": asking(model, plain=plain)}, runyard=budget) as eng:
        run = await eng.run("g", {"n": 5, "out": []})
        assert run.phase is Phase.PAUSED
        assert len(model.calls) == 3, "the third call reached it, and none came after that"
        assert run.spent["tokens"] == 300
        asked = question(eng, run)
        assert (asked["scope"], asked["what"], asked["spent"], asked["limit"]) == ("run", "tokens", 300, 250)
        assert eng.service.get_thread(run.thread_id).status == "interrupted"
        again = await go_on(eng, run, True)
        assert again.phase is Phase.SUCCEEDED
        assert out_of(eng, run) == ["asked"] * 5
        assert again.spent["tokens"] == 200


async def test_a_grant_is_as_large_as_it_says_and_a_no_ends_the_run(redis_url: str) -> None:
    model = Model()
    async with engine(redis_url, {"g": asking(model)}, runyard={"budgets": {"run": {"model_calls": 2}}}) as eng:
        run = await eng.run("g", {"n": 9, "out": []})
        assert len(model.calls) == 2
        second = await go_on(eng, run, {"model_calls": 3})
        assert (second.phase, len(model.calls)) == (Phase.PAUSED, 5)
        refused = await go_on(eng, run, False)
        assert refused.error is not None
        assert refused.error["error"] == "BudgetExceeded"
        assert len(model.calls) == 5


async def test_a_budget_that_fails_is_not_retried_and_says_so(redis_url: str) -> None:
    model = Model()
    budget = {"prices": {"counted": {"in": 1, "out": 1}}, "budgets": {"run": {"cost": 0.00015}, "at_the_edge": "fail"}}
    async with engine(redis_url, {"g": asking(model)}, runyard=budget) as eng:
        run = await eng.run("g", {"n": 5, "out": []})
        assert run.phase is Phase.FAILED
        assert run.error is not None
        assert "0.0002 of 0.00015 cost" in run.error["message"]
        assert len(model.calls) == 2


async def test_a_threads_budget_holds_over_its_runs_and_a_grant_stays_with_it(redis_url: str) -> None:
    model = Model()
    async with engine(redis_url, {"g": asking(model)}, runyard={"budgets": {"thread": {"model_calls": 3}}}) as eng:
        first = await eng.run("g", {"n": 2, "out": []})
        assert first.phase is Phase.SUCCEEDED
        second = await eng.run("g", {"n": 9, "out": []}, thread_id=first.thread_id)
        assert (second.phase, len(model.calls)) == (Phase.PAUSED, 3)
        third = await go_on(eng, second, 2)
        assert (third.phase, len(model.calls)) == (Phase.PAUSED, 5)
        assert question(eng, third)["limit"] == 5


async def test_a_tenants_day_is_one_account_for_all_its_threads(redis_url: str) -> None:
    model = Model()
    async with engine(redis_url, {"g": asking(model)}, runyard={"budgets": {"tenant_day": {"tokens": 300}}}) as eng:
        runs = [await eng.run("g", {"n": 2, "out": []}) for _ in range(3)]
        assert [run.phase for run in runs] == [Phase.SUCCEEDED, Phase.PAUSED, Phase.PAUSED] or len(model.calls) == 3
        granted = await go_on(eng, runs[2], 1000)
        assert granted.phase is Phase.SUCCEEDED
        assert (await eng.run("g", {"n": 2, "out": []})).phase is Phase.SUCCEEDED, "for all of its threads"


@pytest.mark.parametrize("where", ["one worker", "threads", "many workers"])
@pytest.mark.parametrize("budget", [{"tokens": 450}, {"cost": 0.00045}, {"model_calls": 5}])
async def test_calls_side_by_side_overshoot_by_one_call_at_most(redis_url: str, where: str, budget: Any) -> None:
    model = Threaded() if where == "threads" else Slow()
    graph = spread(model, 8, plain=where == "threads", elsewhere=where == "many workers")
    runyard = {"prices": {"counted": {"in": 1, "out": 1}}, "budgets": {"run": budget}}
    async with engine(redis_url, {"g": graph}, runyard=runyard, max_branches=8) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.PAUSED, run.error
        assert len(model.calls) == 5, "four leave a little, the fifth reaches it"
        assert run.spent["tokens"] == 500
        assert run.spent["model_calls"] == 5
        assert question(eng, run)["what"] == next(iter(budget))
        at = eng.keys.of_run(run.run_id)
        assert not eng.sync_store.client.exists(at.run_calls(run.run_id), at.thread_calls(run.thread_id))
        ended = await go_on(eng, run, 10**6)
        assert ended.phase is Phase.SUCCEEDED
        assert out_of(eng, run) == ["yes"] * 8


async def test_calls_whose_requests_say_how_long_the_answer_may_be_run_side_by_side(redis_url: str) -> None:
    model = Slow()
    graph = spread(model, 8, max_tokens=100)
    async with engine(redis_url, {"g": graph}, runyard={"budgets": {"run": {"tokens": 5000}}}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.SUCCEEDED
        assert model.most == 8


async def test_runs_of_one_tenant_share_what_is_left_of_its_day(redis_url: str) -> None:
    model = Slow()
    runyard = {"budgets": {"tenant_day": {"tokens": 350}, "thread": {"tokens": 10**6}}}
    async with engine(redis_url, {"g": asking(model)}, runyard=runyard) as eng:
        runs = [eng.start("g", {"n": 2, "out": []}) for _ in range(5)]
        await eng.drive()
        assert len(model.calls) == 4, "the fourth reaches it, and none is under way beside it"
        assert Phase.PAUSED in {eng.service.get_run(run.run_id).phase for run in runs}
        [day] = list(eng.sync_store.client.scan_iter("ry:{spent:*}"))
        assert float(eng.sync_store.client.hget(day, "spent:tokens")) == 400
        spent = sum(eng.service.get_run(run.run_id).spent.get("model_calls", 0) for run in runs)
        assert spent == 4, "what was taken back is not counted"


async def test_the_calls_of_a_dead_worker_are_over_after_a_while(redis_url: str) -> None:
    async with engine(redis_url, {"g": asking(Model())}) as eng:
        run = eng.start("g", {"n": 1, "out": []})
        limits: Any = {"run": {"tokens": 100.0}}

        def begins(name: str) -> spending.Verdict:
            return eng.sync_store.do(spending.begin(eng.keys, run, spending.Begins(name, "model_calls", 500), limits))

        assert begins("dead").may_begin
        assert begins("dead").may_begin, "a lost reply is no second call"
        assert begins("next").waits
        calls = eng.keys.of_run(run.run_id).run_calls(run.run_id)
        assert 50_000 < eng.sync_store.client.pttl(calls) <= 60_000
        eng.sync_store.client.hset(calls, "dead", "1 500 0")
        eng.sync_store.client.delete(eng.keys.of_run(run.run_id).thread_calls(run.thread_id))
        assert begins("next").may_begin
        assert eng.service.get_run(run.run_id).spent["model_calls"] == 2


def test_what_a_call_comes_to_at_most() -> None:
    message, picture = HumanMessage("é" * 10), HumanMessage([{"type": "image_url", "image_url": "https://x"}])
    assert bound_of([[message]], {"max_tokens": 50, "n": 2}, 1000) == Bound(84, 100)
    assert bound_of([[picture]], {"max_tokens": None}, 1000) == Bound(32_800, 1000)
    assert bound_of(["abc"], None, 1000) == Bound(35, 1000)


async def test_tools_and_supersteps_count(redis_url: str) -> None:
    def use(_: State) -> State:
        return {"out": [look.invoke({"word": "x"})]}

    graph = StateGraph(State)
    graph.add_node("use", use)
    graph.add_edge(START, "use")
    graph.add_conditional_edges("use", lambda state: "use" if len(state["out"]) < state["n"] else END, ["use", END])
    made = graph.compile()
    for what in ("tool_calls", "supersteps"):
        async with engine(redis_url, {"g": made}, runyard={"budgets": {"run": {what: 3}}}) as eng:
            run = await eng.run("g", {"n": 9, "out": []})
            assert run.phase is Phase.PAUSED
            assert out_of(eng, run) == ["x"] * 3
            assert run.spent[what] == 3


async def test_the_answer_to_a_budget_is_not_taken_for_one_to_a_node(redis_url: str) -> None:
    model = Model()

    async def work(_: State) -> State:
        await model.ainvoke("?")
        return {"out": ["asked"]}

    def decide(_: State) -> State:
        return {"out": [interrupt("go on?")]}

    graph = StateGraph(State)
    graph.add_node("work", work)
    graph.add_node("more", work)
    graph.add_node("decide", decide)
    graph.add_edge(START, "work")
    graph.add_edge("work", "more")
    graph.add_edge("more", "decide")
    graph.add_edge("decide", END)
    async with engine(redis_url, {"g": graph.compile()}, runyard={"budgets": {"run": {"model_calls": 1}}}) as eng:
        run = await eng.run("g", {"out": []})
        assert question(eng, run)["kind"] == "budget"
        person = await go_on(eng, run, True)
        assert question(eng, person) == "go on?"
        ended = await go_on(eng, person, "yes")
        assert ended.phase is Phase.SUCCEEDED
        assert out_of(eng, run) == ["asked", "asked", "yes"]


def test_graphs_have_their_own_and_what_they_do_not_say_is_everybodys() -> None:
    budgets = budgets_of({"run": {"tokens": 10}, "graphs": {"g": {"thread": {"cost": 1}, "at_the_edge": "fail"}}})
    assert budgets.of("other") == Budget({"run": {"tokens": 10.0}})
    assert budgets.of("g") == Budget({"run": {"tokens": 10.0}, "thread": {"cost": 1.0}}, pauses=False)
    assert not budgets_of({}).of("g")


@pytest.mark.parametrize(
    ("answer", "granted"),
    [(5, {"tokens": 5.0}), (True, {"tokens": 9.0}), (None, {"tokens": 9.0}), ("yes", {"tokens": 9.0}), (False, None),
     ({"cost": 2, "nonsense": 1}, {"cost": 2.0}), (-1, {"tokens": 9.0})],
)  # fmt: skip
def test_what_an_answer_grants(answer: Any, granted: Any) -> None:
    assert grant_of(answer, {"what": "tokens", "limit": 9.0}) == granted


@pytest.mark.parametrize(
    ("configured", "word"),
    [([], "object"), ({"run": {"token": 1}}, "token"), ({"run": {"tokens": 0}}, "above 0"), ({"day": {}}, "day"),
     ({"at_the_edge": "stop"}, "at_the_edge")],
)  # fmt: skip
def test_a_budget_that_means_nothing_is_refused_by_field(configured: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        budgets_of(configured)
