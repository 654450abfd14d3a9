"""It is known of each checkpoint whether LangGraph tells the values of its graph with it."""

from __future__ import annotations

import operator
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import DeltaChannel, LastValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import Command, interrupt

from runyard.engine import seam
from tests.unit.test_seam import at


@entrypoint(checkpointer=InMemorySaver())
def _function(given: Any) -> Any:
    return given


class Quiet(TypedDict, total=False):
    out: Annotated[list[Any], operator.add]
    words: Annotated[list[str], DeltaChannel(lambda known, writes: [*known, *(w for one in writes for w in one)], list)]


def _quiet() -> Any:
    """Supersteps that write state, that write a delta channel alone, and that write nothing; a subgraph writes all it
    has."""
    inner = StateGraph(Quiet).add_node("deep", lambda _: {}).add_edge(START, "deep").compile()
    builder = StateGraph(Quiet)
    builder.add_node("nothing", lambda _: None).add_node("some", lambda _: {"out": [1]})
    builder.add_node("delta", lambda _: {"words": ["w"]}).add_node("sub", inner)
    builder.add_node("ask", lambda _: {"out": [interrupt("?")]}).add_node("empty", lambda _: {})
    names = ["nothing", "some", "delta", "sub", "ask", "empty"]
    builder.add_edge(START, names[0])
    for one, following in pairwise(names):
        builder.add_edge(one, following)
    return builder.compile(checkpointer=InMemorySaver())


def _pregel() -> Any:
    """Without START: its input is one of its values."""
    node = NodeBuilder().subscribe_only("a").do(lambda a: a + 1).write_to("b")
    channels = {"a": LastValue(int), "b": LastValue(int)}
    return Pregel(nodes={"one": node}, channels=channels, input_channels="a", output_channels=["a", "b"],
                  stream_channels=["a", "b"], checkpointer=InMemorySaver())  # fmt: skip


def _told_with(graph: Any, given: Any, **where: Any) -> list[tuple[str, bool, bool]]:
    """Of each checkpoint that a stream tells: its source, whether values came before it, and what is foretold."""
    found, came = [], False
    for mode, data in graph.stream(given, at(**where), stream_mode=["values", "checkpoints"], durability="sync"):
        if mode == "checkpoints":
            saved = graph.checkpointer.get_tuple(data["config"])
            source = saved.metadata["source"]
            found.append((source, came, seam.tells_values(graph, saved.checkpoint, source)))
        came = mode == "values"
    return found


def _as_it_is(found: list[tuple[str, bool, bool]]) -> bool:
    return all(came == foretold for _, came, foretold in found)


@pytest.mark.parametrize("given", [{"out": [0]}, {"words": ["in"]}, {"unknown": 1}, {}])
def test_it_is_known_with_which_checkpoints_values_are_told(given: Any) -> None:
    graph = _quiet()
    begun = _told_with(graph, given)
    first = bool(given.keys() & {"out", "words"})
    assert [came for _, came, _ in begun] == [False, first, False, True, True, True]
    assert _as_it_is(begun)
    resumed = _told_with(graph, Command(resume="answer"))
    assert resumed[0][1], "who goes on is told the values first, wherever that is"
    assert [came for _, came, _ in resumed[1:]] == [True, False]
    assert _as_it_is(resumed[1:])


def test_an_edit_and_a_fork_tell_values_even_if_they_write_none() -> None:
    graph = _quiet()
    graph.invoke({"out": [0]}, at())
    behind = next(state.config["configurable"] for state in graph.get_state_history(at()) if state.next == ("some",))
    forked = _told_with(graph, None, checkpoint_id=behind["checkpoint_id"])
    assert forked[0] == ("fork", True, True)
    assert _as_it_is(forked)
    graph.update_state(at(), {}, as_node="ask")
    edited = _told_with(graph, None)
    assert edited[0] == ("update", True, True)
    assert _as_it_is(edited)


@pytest.mark.parametrize(("make", "given"), [(lambda: _function, {"out": []}), (_pregel, 1)])
def test_it_is_known_of_graphs_without_a_state_graph_too(make: Any, given: Any) -> None:
    found = _told_with(make(), given, thread="told")
    assert [(source, came) for source, came, _ in found] == [("input", False), ("loop", True)]
    assert _as_it_is(found)


def test_values_are_told_where_an_old_checkpoint_does_not_say_what_was_written() -> None:
    graph = _quiet()
    graph.invoke({"out": [0]}, at())
    saved = graph.checkpointer.get_tuple(at())
    assert seam.tells_values(graph, {**saved.checkpoint, "updated_channels": None}, "loop")
    assert not seam.tells_values(graph, {**saved.checkpoint, "updated_channels": []}, "loop")
