"""A graph in a terminal."""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from runyard.app.commands.picture import draw


class State(TypedDict):
    x: int


def made(**edges: list[str]) -> Any:
    builder = StateGraph(State)
    for node in edges:
        builder.add_node(node, lambda state: state)
    builder.add_edge(START, next(iter(edges)))
    for node, targets in edges.items():
        ends = [END if target == "end" else target for target in targets]
        if len(ends) == 1:
            builder.add_edge(node, ends[0])
        else:
            builder.add_conditional_edges(node, lambda _: END, ends)
    return builder.compile().get_graph()


def test_a_chain_is_drawn_from_its_start_to_its_end() -> None:
    assert draw(made(plan=["answer"], answer=["end"])) == ["start", "└─ plan", "   └─ answer", "      └─ end"]


def test_a_loop_is_named_and_not_drawn_again() -> None:
    assert draw(made(plan=["check"], check=["answer", "plan"], answer=["end"])) == [
        "start",
        "└─ plan",
        "   └─ check",
        "      ├┄ answer",
        "      │  └─ end",
        "      └┄ plan ↑",
    ]
