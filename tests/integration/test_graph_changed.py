"""A changed graph never makes a waiting run finish with nothing done."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from runyard.engine import wire
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.letter import Filter, Repair
from runyard.engine.run import Phase
from tests.support.engine import engine


class State(TypedDict, total=False):
    out: Annotated[list[str], operator.add]


def chain(*names: str, asks: str | None = None) -> Any:
    graph, previous = StateGraph(State), START
    for name in names:

        def node(state: State, name: str = name) -> State:
            return {"out": [interrupt("go on?")] if name == asks else [name]}

        graph.add_node(name, node)
        graph.add_edge(previous, name)
        previous = name
    graph.add_edge(previous, END)
    return graph.compile()


async def test_a_resume_whose_node_is_gone_becomes_a_dead_letter_that_tells_the_difference(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "ask", asks="ask")}) as eng:
        paused = await eng.run("g", {"out": []})
        assert paused.phase is Phase.PAUSED
        eng.graphs["g"] = chain("a", "question", asks="question")
        resumed = await eng.run("g", thread_id=paused.thread_id, command={"resume": "yes"})
        assert resumed.phase is Phase.FAILED
        error = resumed.error or {}
        assert error["error"] == "GraphChanged"
        assert "nodes removed: ask; nodes added: question" in error["message"]
        state = eng.service.saver.get_tuple({"configurable": {"thread_id": paused.thread_id}})
        assert state.metadata["step"] == 1  # the thread is as it was


async def test_a_run_between_two_slices_notices_too(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "b", "c")}, quantum_s=0) as eng:
        run = eng.start("g", {"out": []})
        (following,) = await eng.carry_out(eng.wakes.popleft())
        eng.graphs["g"] = chain("a", "c")
        await eng.carry_out(following)
        assert (eng.service.get_run(run.run_id).error or {})["error"] == "GraphChanged"


async def test_a_send_to_a_node_that_is_gone_is_noticed(redis_url: str) -> None:
    def fan(target: str) -> Any:
        graph = StateGraph(State)
        graph.add_node("plan", lambda state: {})
        graph.add_node(target, lambda state: {"out": [target]})
        graph.add_edge(START, "plan")
        graph.add_conditional_edges("plan", lambda state: [Send(target, {})], [target])
        return graph.compile()

    async with engine(redis_url, {"g": fan("old")}, quantum_s=0) as eng:
        run = eng.start("g", {"out": []})
        (following,) = await eng.carry_out(eng.wakes.popleft())
        eng.graphs["g"] = fan("new")
        await eng.carry_out(following)
        assert (eng.service.get_run(run.run_id).error or {})["error"] == "GraphChanged"


async def test_a_compatible_change_goes_on(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "ask", asks="ask")}) as eng:
        paused = await eng.run("g", {"out": []})
        eng.graphs["g"] = chain("a", "ask", "extra", asks="ask")
        resumed = await eng.run("g", thread_id=paused.thread_id, command={"resume": "yes"})
        assert resumed.status == "success"
        assert wire.decode(eng.service.get_thread(paused.thread_id).values)["out"] == ["a", "yes", "extra"]


async def test_new_input_does_not_care_what_the_graph_was(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "ask", asks="ask")}) as eng:
        paused = await eng.run("g", {"out": []})
        eng.graphs["g"] = chain("other")
        again = await eng.run("g", {"out": []}, thread_id=paused.thread_id)
        assert again.status == "success"


async def test_an_operator_can_go_on_at_another_node_or_accept_the_change(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "b", "c")}, quantum_s=0) as eng:
        runs = []
        for _ in range(2):
            run = eng.start("g", {"out": []})
            eng.graphs["g"] = chain("a", "b", "c")
            (following,) = await eng.carry_out(eng.wakes.popleft())
            eng.graphs["g"] = chain("a", "c")
            await eng.carry_out(following)
            runs.append(run)
        letters = DeadLetters(eng.service)
        letters.replay(runs[0].run_id, Repair(values={"out": ["by hand"]}, as_node="a"), eng.graphs["g"])
        letters.replay(runs[1].run_id, Repair(accept_change=True))
        await eng.drive()
        assert [eng.service.get_run(run.run_id).status for run in runs] == ["success", "success"]
        assert wire.decode(eng.service.get_thread(runs[0].thread_id).values)["out"] == ["a", "by hand", "c"]


async def test_the_next_change_is_compared_with_the_version_a_run_went_on_with(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "b")}, quantum_s=0) as eng:
        run = eng.start("g", {"out": []})
        (second,) = await eng.carry_out(eng.wakes.popleft())
        eng.graphs["g"] = chain("a", "b", "c")  # compatible
        (third,) = await eng.carry_out(second)
        eng.graphs["g"] = chain("a", "b")  # and c, which the first version did not have either, is next
        await eng.carry_out(third)
        error = eng.service.get_run(run.run_id).error or {}
        assert error.get("error") == "GraphChanged"
        assert "nodes removed: c" in error["message"]


async def test_a_branch_whose_node_is_gone_on_its_worker_is_noticed(redis_url: str) -> None:
    def remote(name: str) -> Any:
        graph = StateGraph(State)
        graph.add_node(name, lambda state: {"out": [name]}, metadata={"runyard": {"queue": "gpu"}})
        graph.add_edge(START, name)
        return graph.compile()

    async with engine(redis_url, {"g": remote("there")}) as eng:
        run = eng.start("g", {"out": []})
        (branch,) = await eng.carry_out(eng.wakes.popleft())
        assert branch.branch
        eng.graphs["g"] = remote("elsewhere")
        (gathered,) = await eng.carry_out(branch)
        eng.graphs["g"] = remote("there")  # the run's own worker has the old version still
        await eng.carry_out(gathered)
        error = eng.service.get_run(run.run_id).error or {}
        assert error.get("error") == "GraphChanged"
        assert "nodes removed: there; nodes added: elsewhere" in error["message"]


async def test_a_changed_policy_is_another_version_and_no_reason_to_stop(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "b")}, quantum_s=0) as eng:
        run = eng.start("g", {"out": []})
        (following,) = await eng.carry_out(eng.wakes.popleft())
        before = eng.service.get_run(run.run_id).fingerprint
        eng.graphs["g"] = chain("a", "b")
        eng.graphs["g"].nodes["b"].metadata = {"runyard": {"required": False}}
        await eng.carry_out(following)
        ended = eng.service.get_run(run.run_id)
        assert ended.status == "success"
        assert ended.fingerprint != before


async def test_one_graph_under_two_names_has_a_version_for_each_ones_policies(redis_url: str) -> None:
    graph = chain("a")
    configured = {"policies": {"lenient": {"a": {"required": False}}}}
    async with engine(redis_url, {"strict": graph, "lenient": graph}, runyard=configured) as eng:
        runs = [await eng.run(name, {"out": []}) for name in ("strict", "lenient")]
        assert runs[0].fingerprint != runs[1].fingerprint


async def test_a_resume_stays_a_dead_letter_of_the_version_it_waited_on_until_the_change_is_accepted(
    redis_url: str,
) -> None:
    async with engine(redis_url, {"g": chain("a", "ask", asks="ask")}) as eng:
        paused = [await eng.run("g", {"out": []}) for _ in range(2)]
        eng.graphs["g"] = chain("a", "question", asks="question")
        resumed = [await eng.run("g", thread_id=run.thread_id, command={"resume": "yes"}) for run in paused]
        letters = DeadLetters(eng.service)
        letters.replay(resumed[0].run_id)  # without accepting anything
        await eng.drive()
        assert (eng.service.get_run(resumed[0].run_id).error or {})["error"] == "GraphChanged"
        of_version = Filter(graph_fingerprint=paused[0].fingerprint)
        told = list(letters.replay_all(of_version, Repair(accept_change=True), per_second=1000))
        await eng.drive()
        assert [word for _, word in told] == ["replayed", "replayed"]
        assert [eng.service.get_run(run.run_id).status for run in resumed] == ["success", "success"]


async def test_a_graph_that_could_not_be_loaded_does_not_make_its_thread_forget_the_version(redis_url: str) -> None:
    async with engine(redis_url, {"g": chain("a", "ask", asks="ask")}) as eng:
        paused = await eng.run("g", {"out": []})
        del eng.graphs["g"]
        resumed = await eng.run("g", thread_id=paused.thread_id, command={"resume": "yes"})
        assert (resumed.error or {})["error"] == "GraphUnavailable"
        eng.graphs["g"] = chain("a", "question", asks="question")
        DeadLetters(eng.service).replay(resumed.run_id)
        await eng.drive()
        assert (eng.service.get_run(resumed.run_id).error or {}).get("error") == "GraphChanged"
