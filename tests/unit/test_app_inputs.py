"""An input is refused beforehand only when the graph would certainly refuse it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

import pytest
from langchain_core.messages import HumanMessage
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from runyard.app.inputs import checker, context_keys
from runyard.engine.errors import InvalidInput
from runyard.engine.kinds import kind_of


class Plain(TypedDict, total=False):
    text: str
    count: int
    share: float
    on: bool
    names: list[str]
    steps: Annotated[list[str], operator.add]
    maybe: NotRequired[int | None]
    mode: Literal["fast", "slow"]
    anything: Any
    message: HumanMessage


class Model(BaseModel):
    question: str
    count: int = Field(default=1, ge=0)
    steps: Annotated[list[str], operator.add] = []


@dataclass
class Data:
    text: str
    count: int = 0


def graph_of(schema: Any) -> Any:
    return StateGraph(schema).add_node("a", lambda _: {}).add_edge(START, "a").add_edge("a", END).compile()


CHECK = {schema: checker(graph_of(schema)) for schema in (Plain, Model, Data, MessagesState)}


@pytest.mark.parametrize(
    ("schema", "given"),
    [
        (Plain, None),
        (Plain, {}),
        (Plain, {"text": "a", "count": 1, "share": 1, "on": True, "names": [], "maybe": None, "mode": "slow"}),
        (Plain, {"count": 2.0}),
        (Plain, {"text": None}),
        (Plain, {"unknown": 1}),
        (Plain, {"steps": "anything: a reducer takes it"}),
        (Plain, {"anything": {"a": [1]}, "message": {"role": "user", "content": "hi"}}),
        (Model, {"question": "why"}),
        (Model, {"count": 3}),
        (Model, {"question": "why", "steps": "abc", "unknown": 1}),
        (Data, {"count": 1}),
        (MessagesState, {"messages": "hi"}),
        (MessagesState, {"messages": [{"role": "user", "content": "hi"}]}),
        (MessagesState, {"messages": [["human", "hi"]]}),
    ],
)
def test_what_a_graph_might_take_is_accepted(schema: Any, given: Any) -> None:
    CHECK[schema](given)


@pytest.mark.parametrize(
    ("schema", "given", "said"),
    [
        (
            Plain,
            "text",
            r"input: must be a JSON object with keys of the graph's state \(anything, count, .*\), not \"text\"",
        ),
        (Plain, [1], r"input: must be a JSON object"),
        (MessagesState, 5, r"\(messages\), not 5"),
        (Plain, {"text": 5}, "input.text: must be text, not 5"),
        (Plain, {"count": "5"}, 'input.count: must be a whole number, not "5"'),
        (Plain, {"count": 1.5}, "input.count: must be a whole number, not 1.5"),
        (Plain, {"count": True}, "input.count: must be a whole number, not true"),
        (Plain, {"share": "1"}, "input.share: must be a number"),
        (Plain, {"on": 1}, "input.on: must be true or false, not 1"),
        (Plain, {"names": "a"}, "input.names: must be a list"),
        (Plain, {"maybe": "a"}, "input.maybe: must be a whole number or null"),
        (Plain, {"mode": "medium"}, 'input.mode: must be "fast" or "slow", not "medium"'),
        (Model, {"question": 5}, "input.question: .*valid string; it is 5"),
        (Model, {"question": "why", "count": -1}, "input.count: .*greater than or equal to 0; it is -1"),
        (Data, {"count": "1"}, "input.count: must be a whole number"),
    ],
)
def test_what_a_graph_would_refuse_is_refused_by_name(schema: Any, given: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        CHECK[schema](given)


def test_the_functional_api_takes_any_input() -> None:
    @entrypoint()
    def double(number: int) -> int:
        return 2 * number

    checker(double)("not even a number")


def test_a_state_without_keys_takes_any_input() -> None:
    state = Annotated[list, operator.add]
    checker(StateGraph(state).add_node("a", lambda _: []).add_edge(START, "a").compile())(["anything"])


def test_a_huge_number_is_no_whole_number_and_no_crash() -> None:
    kind = kind_of(int)
    assert kind is not None
    assert not kind[0](float("inf"))


@pytest.mark.parametrize(
    ("schema", "keys"),
    [
        (None, None),
        (Plain, None),
        (Data, {"text", "count"}),
        (Model, {"question", "count", "steps"}),
    ],
)
def test_a_context_made_of_a_class_takes_its_fields_and_any_other_whatever_comes(schema: Any, keys: Any) -> None:
    builder = (
        StateGraph(Plain, context_schema=schema).add_node("a", lambda _: {}).add_edge(START, "a").add_edge("a", END)
    )
    known = context_keys(builder.compile())
    assert (known if known is None else set(known)) == keys
