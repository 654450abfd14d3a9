"""Dead letters: understood from what is kept, repaired by hand, taken up again as the same run."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from runyard.engine import wire
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.errors import InvalidInput, InvalidTransition, ThreadBusy
from runyard.engine.letter import Filter, Repair, error_fingerprint
from runyard.engine.run import Phase, Run
from tests.support.engine import Engine, engine


class State(TypedDict, total=False):
    items: list[int]
    divisor: int
    out: Annotated[list[Any], operator.add]


class Broken:
    """A fan-out of which one item fails until the state, or the world, is mended."""

    def __init__(self) -> None:
        self.executed: list[int] = []
        self.mended = False

    async def work(self, state: Any) -> State:
        self.executed.append(state["i"])
        if state["i"] == 2 and not self.mended:
            raise ZeroDivisionError(f"item 2 at 0x7f{len(self.executed)}ab")
        return {"out": [state["i"]]}

    def graph(self) -> Any:
        graph = StateGraph(State)
        graph.add_node("plan", lambda state: {})
        graph.add_node("work", self.work)
        graph.add_node("total", lambda state: {"out": [sum(item for item in state["out"] if isinstance(item, int))]})
        graph.add_edge(START, "plan")
        graph.add_conditional_edges("plan", lambda state: [Send("work", {"i": i}) for i in state["items"]], ["work"])
        graph.add_edge("work", "total")
        graph.add_edge("total", END)
        return graph.compile()


GIVEN = {"items": [1, 2, 3], "out": []}


def out_of(eng: Engine, run: Run) -> Any:
    return wire.decode(eng.service.get_thread(run.thread_id).values)["out"]


async def test_a_dead_letter_keeps_all_that_is_needed_to_understand_it(redis_url: str) -> None:
    broken = Broken()
    async with engine(redis_url, {"g": broken.graph()}) as eng:
        run = await eng.run("g", GIVEN)
        letter = DeadLetters(eng.service).get(run.run_id)
        assert letter["node"] == "work"
        assert letter["error"] == "ZeroDivisionError"
        assert "test_dead_letters.py" in letter["traceback"]
        assert [record["attempt"] for record in letter["attempts"]] == [1]
        assert letter["checkpoint"]["step"] == 1
        assert sorted(sibling["value"] for sibling in letter["siblings"] if sibling["channel"] == "out") == [[1], [3]]


async def test_a_replay_runs_only_what_failed_and_keeps_the_run(redis_url: str) -> None:
    broken = Broken()
    async with engine(redis_url, {"g": broken.graph()}) as eng:
        run = await eng.run("g", GIVEN)
        broken.mended = True
        broken.executed.clear()
        revived = DeadLetters(eng.service).replay(run.run_id)
        assert (revived.run_id, revived.phase) == (run.run_id, Phase.WAITING)
        await eng.drive()
        ended = eng.service.get_run(run.run_id)
        assert (ended.status, ended.replays, ended.error) == ("success", 1, None)
        assert broken.executed == [2]
        assert out_of(eng, run) == [1, 2, 3, 6]


async def test_whoever_waits_for_a_replayed_run_gets_the_new_result(redis_url: str) -> None:
    broken = Broken()
    async with engine(redis_url, {"g": broken.graph()}) as eng:
        run = await eng.run("g", GIVEN)
        broken.mended = True
        DeadLetters(eng.service).replay(run.run_id)
        await eng.drive()
        (result,) = [part for part in eng.service.result(run) if part is not None]
        assert wire.decode(result)["out"][-1] == 6


@pytest.mark.parametrize(
    ("repair", "expected"),
    [
        (Repair(output={"work": {"out": [20]}}), [1, 20, 3, 24]),
        (Repair(skip=("work",)), [1, 3, 4]),
        (Repair(goto={"work": "plan"}, values=None), None),
    ],
)
async def test_a_failed_node_can_be_stood_in_for(redis_url: str, repair: Repair, expected: Any) -> None:
    broken = Broken()
    async with engine(redis_url, {"g": broken.graph()}) as eng:
        run = await eng.run("g", GIVEN)
        if expected is None:
            broken.mended = True
        broken.executed.clear()
        DeadLetters(eng.service).replay(run.run_id, repair, eng.graphs["g"])
        await eng.drive()
        assert eng.service.get_run(run.run_id).status == "success"
        if expected is not None:
            assert broken.executed == []
            assert out_of(eng, run) == expected
        else:
            assert sorted(broken.executed) == [1, 2, 3]


async def test_the_state_can_be_edited_before_a_replay(redis_url: str) -> None:
    graph = StateGraph(State)
    graph.add_node("first", lambda state: {})
    graph.add_node("divide", lambda state: {"out": [6 // state["divisor"]]})
    graph.add_edge(START, "first")
    graph.add_edge("first", "divide")
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = await eng.run("g", {"divisor": 0, "out": []})
        assert run.status == "error"
        DeadLetters(eng.service).replay(run.run_id, Repair(values={"divisor": 2}, as_node="first"), eng.graphs["g"])
        await eng.drive()
        assert out_of(eng, run) == [3]


async def test_a_repair_that_names_a_node_that_does_not_wait_is_refused(redis_url: str) -> None:
    async with engine(redis_url, {"g": Broken().graph()}) as eng:
        run = await eng.run("g", GIVEN)
        letters = DeadLetters(eng.service)
        with pytest.raises(InvalidInput, match=r"Node 'total' is not waiting to run; these are: work\."):
            letters.replay(run.run_id, Repair(skip=("total",)), eng.graphs["g"])
        assert letters.search()[1] == 1


async def test_a_dead_letter_is_replayed_once(redis_url: str) -> None:
    async with engine(redis_url, {"g": Broken().graph()}) as eng:
        run = await eng.run("g", GIVEN)
        letters = DeadLetters(eng.service)
        letters.replay(run.run_id)
        with pytest.raises(InvalidTransition):
            letters.replay(run.run_id)


async def test_a_replay_waits_for_no_other_run_of_the_thread(redis_url: str) -> None:
    async with engine(redis_url, {"g": Broken().graph()}) as eng:
        run = await eng.run("g", GIVEN)
        eng.start("g", GIVEN, thread_id=run.thread_id)
        with pytest.raises(ThreadBusy):
            DeadLetters(eng.service).replay(run.run_id)


async def test_dead_letters_are_filtered_and_replayed_in_bulk(redis_url: str) -> None:
    broken = Broken()
    async with engine(redis_url, {"g": broken.graph(), "h": broken.graph()}) as eng:
        failed = [await eng.run("g", GIVEN) for _ in range(3)] + [await eng.run("h", GIVEN)]
        letters = DeadLetters(eng.service)
        of_g, total = letters.search(Filter(graph_id="g"), limit=2)
        assert (len(of_g), total) == (2, 3)
        kind = error_fingerprint("g", failed[0].error or {})
        assert letters.search(Filter(fingerprint=kind))[1] == 3
        assert letters.search(Filter(node="plan"))[1] == 0
        assert letters.search(Filter(older_than_s=60))[1] == 0
        broken.mended = True
        replayed = list(letters.replay_all(Filter(graph_id="g"), per_second=1000))
        assert [(run_id, word) for run_id, word in replayed] == [(run.run_id, "replayed") for run in failed[:3]]
        await eng.drive()
        assert letters.search()[1] == 1


async def test_a_discarded_letter_is_gone_from_the_list_and_its_record_says_why(redis_url: str) -> None:
    async with engine(redis_url, {"g": Broken().graph()}) as eng:
        run = await eng.run("g", GIVEN)
        letters = DeadLetters(eng.service)
        letters.discard(run.run_id, "known bug")
        assert letters.search()[1] == 0
        assert eng.service.get_run(run.run_id).discarded == "known bug"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ([1], r"output\.work: must be a JSON object with keys of the graph's state \(divisor, items, out\), not \[1\]"),
        ({"uot": [1]}, r"output\.work: the graph's state has no 'uot', only divisor, items, out"),
        ({"divisor": "two"}, r'output\.work\.divisor: must be a whole number, not "two"'),
        ({"out": 1}, r"output\.work\.out: the state does not take 1: TypeError: "),
    ],
)
async def test_an_output_of_a_wrong_shape_is_refused_before_anything_is_done(
    redis_url: str, output: Any, said: str
) -> None:
    async with engine(redis_url, {"g": Broken().graph()}) as eng:
        run = await eng.run("g", GIVEN)
        letters = DeadLetters(eng.service)
        for repair in (
            Repair(output={"work": output}),
            Repair(output={"work": output}, goto={"work": "total"}),
            Repair(output={"work": output}, values={"items": [2]}, as_node="plan"),
        ):
            with pytest.raises(InvalidInput, match=said):
                letters.replay(run.run_id, repair, eng.graphs["g"])
        assert letters.get(run.run_id)["checkpoint"]["step"] == 1  # nor was the state edited


async def test_an_output_that_two_failed_parts_cannot_both_have_given_is_refused(redis_url: str) -> None:
    broken = Broken()
    async with engine(redis_url, {"g": broken.graph()}) as eng:
        run = await eng.run("g", {"items": [2, 2], "out": []})
        letters = DeadLetters(eng.service)
        with pytest.raises(InvalidInput, match=r"output\.work\.divisor: .*InvalidUpdateError"):
            letters.replay(run.run_id, Repair(output={"work": {"divisor": 1}}), eng.graphs["g"])
        letters.replay(run.run_id, Repair(output={"work": {"out": [20]}}), eng.graphs["g"])
        await eng.drive()
        assert out_of(eng, run) == [20, 20, 40]


async def parked(eng: Engine, given: Any) -> Run:
    run = eng.start("g", given)
    await eng.drive()
    run = eng.service.get_run(run.run_id)
    assert run.phase is Phase.PARKED
    return run


async def test_a_parked_run_can_be_repaired_like_a_dead_letter(redis_url: str) -> None:
    graph = StateGraph(State)
    graph.add_node("first", lambda state: {})
    graph.add_node(
        "divide",
        lambda state: {"out": [6 // state["divisor"]]},
        metadata={"runyard": {"on_exhausted": "park"}},
    )
    graph.add_edge(START, "first")
    graph.add_edge("first", "divide")
    repairs = [
        (Repair(values={"divisor": 2}, as_node="first"), [3]),
        (Repair(output={"divide": {"out": [7]}}), [7]),
        (Repair(skip=("divide",)), []),
    ]
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        for repair, expected in repairs:
            run = await parked(eng, {"divisor": 0, "out": []})
            DeadLetters(eng.service).replay(run.run_id, repair, eng.graphs["g"])
            await eng.drive()
            assert eng.service.get_run(run.run_id).status == "success"
            assert out_of(eng, run) == expected


async def test_an_edit_of_a_parked_run_that_has_gone_on_writes_nothing(redis_url: str) -> None:
    class Letters(DeadLetters):
        """Between the look at the run and the edit of its state, the run goes on."""

        def _edit(self, run: Run, repair: Repair, graph: Any) -> None:
            DeadLetters(eng.service).replay(run.run_id)
            super()._edit(run, repair, graph)

    graph = StateGraph(State)
    graph.add_node("divide", lambda state: 1 // 0, metadata={"runyard": {"on_exhausted": "park"}})
    graph.add_edge(START, "divide")
    async with engine(redis_url, {"g": graph.compile()}) as eng:
        run = await parked(eng, {"out": []})
        with pytest.raises(InvalidTransition, match="is not parked any more"):
            Letters(eng.service).replay(run.run_id, Repair(values={"items": [9]}, as_node="divide"), eng.graphs["g"])
        saved = eng.service.saver.get_tuple({"configurable": {"thread_id": run.thread_id}})
        assert "items" not in saved.checkpoint["channel_values"]
