"""From what LangGraph streams to what readers of a run see."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langgraph.types import Interrupt

from runyard.engine import wire
from runyard.engine.feed import Feed, modes_of
from runyard.engine.protocol import STREAM_MODE
from runyard.engine.run import RunRequest


class Book:
    """Takes what would be saved."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def tell(self, name: str, data: bytes) -> None:
        self.told.append((name, wire.decode(data)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]


def feed(*modes: str, **how: Any) -> tuple[Feed, Book]:
    book = Book()
    return Feed(RunRequest(stream_mode=list(modes)), book.tell, **how), book


@pytest.mark.parametrize(
    ("asked", "modes"),
    [
        ([], ["values"]),
        (["values"], ["values"]),
        (["messages-tuple"], ["values", "messages"]),
        (["messages", "messages-tuple", "debug", "events"], ["values", "messages", "debug"]),
        (["tasks", "updates", "custom"], ["values", "tasks", "updates", "custom"]),
    ],
)
def test_langgraph_is_asked_for_what_was_asked_and_what_the_slice_needs(asked: list[str], modes: list[str]) -> None:
    assert modes_of(RunRequest(stream_mode=asked), may_stop=False) == modes
    at_a_breakpoint = modes_of(RunRequest(stream_mode=asked), may_stop=True)
    assert set(at_a_breakpoint) == {*modes, "updates"}


def test_only_what_was_asked_is_told() -> None:
    made, book = feed("updates")
    for mode in ("values", "updates", "custom", "debug"):
        made.take((), mode, {"n": 1})
    assert book.told == [("updates", {"n": 1})]


def test_events_of_subgraphs_are_named_with_their_namespace() -> None:
    made, book = feed("values", "updates", "custom")
    for mode in ("values", "updates", "custom"):
        made.take(("sub:1", "deep:2"), mode, {"n": 1})
    assert book.names == ["values|sub:1|deep:2", "updates|sub:1|deep:2", "custom|sub:1|deep:2"]


def test_the_result_is_the_roots_latest_values_without_what_is_asked() -> None:
    made, _ = feed()
    made.take((), "values", {"n": 1})
    made.take(("sub:1",), "values", {"n": 2})
    made.take((), "values", {"n": 3, "__interrupt__": [Interrupt(value="?", id="i")]})
    assert made.values == {"n": 3}


@pytest.mark.parametrize("values", ["text", 7, None, ["list"]])
def test_the_values_of_a_functional_graph_may_be_anything(values: Any) -> None:
    made, book = feed("values")
    made.take((), "values", values)
    assert made.values == values
    assert book.told == [("values", values)]


def test_an_interrupt_of_the_root_is_noticed_and_one_below_is_not() -> None:
    made, book = feed()
    made.take(("sub:1",), "updates", {"__interrupt__": []})
    assert not made.interrupted
    made.take((), "updates", {"__interrupt__": []})
    assert made.interrupted
    assert book.told == []


def test_values_that_were_told_before_are_not_told_again() -> None:
    made, book = feed("values", stale=True)
    made.take(("sub:1",), "values", {"below": 1})
    made.take((), "values", {"n": 1})
    made.take((), "values", {"n": 2})
    assert book.told == [("values|sub:1", {"below": 1}), ("values", {"n": 2})]
    assert made.values == {"n": 2}


def test_what_nodes_had_saved_is_told_once() -> None:
    made, book = feed("updates", repeats=True, repeated=["handler", "handler"])
    made.take((), "updates", {"a": 1, "__metadata__": {"cached": True}})
    for number in (1, 2, 3):
        made.take((), "updates", {"handler": number})
    assert book.told == [("updates", {"handler": 3})]


def test_values_that_are_stale_do_not_hide_what_nodes_had_saved() -> None:
    """A crash behind a superstep that wrote nothing: its values were told, what nodes did since perhaps not."""
    made, book = feed("values", "updates", stale=True)
    made.take((), "values", {"n": 1})
    made.take((), "updates", {"a": 1, "__metadata__": {"cached": True}})
    made.take((), "values", {"n": 2})
    assert book.names == ["updates", "values"]


def test_a_resumed_run_tells_what_nodes_had_saved_before() -> None:
    made, book = feed("updates")
    made.take((), "updates", {"a": 1, "__metadata__": {"cached": True}})
    assert book.told == [("updates", {"a": 1, "__metadata__": {"cached": True}})]


def test_a_branch_tells_only_what_its_nodes_do() -> None:
    made, book = feed("values", "updates", "custom", nodes_only=True)
    made.take((), "values", {"n": 1})
    made.take((), "updates", {"done before": 1, "__metadata__": {"cached": True}})
    made.take((), "updates", {"__interrupt__": []})
    made.take((), "updates", {"mine": 1})
    made.take((), "custom", {"p": 1})
    made.take(("mine:1",), "values", {"below": 1})
    assert book.names == ["updates", "custom", "values|mine:1"]
    assert made.interrupted
    assert made.values is None


# --- messages


def tokens(made: Feed, *messages: Any, namespace: tuple[str, ...] = ()) -> None:
    for message in messages:
        made.take(namespace, "messages", (message, {"langgraph_node": "model"}))


def test_messages_tuple_gives_each_token_with_its_metadata() -> None:
    made, book = feed("messages-tuple")
    tokens(made, AIMessageChunk("he", id="m"), AIMessageChunk("llo", id="m"))
    assert book.names == ["messages", "messages"]
    assert [data[0]["content"] for _, data in book.told] == ["he", "llo"]
    assert book.told[0][1][1] == {"langgraph_node": "model"}


def test_legacy_messages_give_the_message_as_far_as_it_has_come() -> None:
    made, book = feed("messages")
    tokens(made, AIMessageChunk("he", id="m"), AIMessageChunk("llo", id="m"), AIMessageChunk("other", id="n"))
    assert book.names == [
        "messages/metadata", "messages/partial", "messages/partial", "messages/metadata", "messages/partial",
    ]  # fmt: skip
    assert book.told[0][1] == {"m": {"metadata": {"langgraph_node": "model"}}}
    partial = [data[0] for name, data in book.told if name == "messages/partial"]
    assert [message["content"] for message in partial] == ["he", "hello", "other"]
    assert {message["type"] for message in partial} == {"ai"}


def test_legacy_messages_give_a_whole_message_as_complete() -> None:
    made, book = feed("messages")
    tokens(made, AIMessage("done", id="m"))
    assert book.names == ["messages/metadata", "messages/complete"]
    assert book.told[1][1][0]["content"] == "done"


def test_a_whole_message_after_its_chunks_completes_it() -> None:
    made, book = feed("messages")
    tokens(made, AIMessageChunk("do", id="m"), AIMessage("done", id="m"))
    assert book.names == ["messages/metadata", "messages/partial", "messages/complete"]


def test_both_kinds_of_messages_can_be_asked_for_and_carry_their_namespace() -> None:
    made, book = feed("messages", "messages-tuple")
    tokens(made, AIMessageChunk("he", id="m"), namespace=("sub:1",))
    assert book.names == ["messages|sub:1", "messages/metadata|sub:1", "messages/partial|sub:1"]


def checkpoint(name: str, *, before: str | None = None, step: int = 0) -> dict[str, Any]:
    """A checkpoint as LangGraph tells it."""
    parent = {"configurable": {"checkpoint_id": before}} if before else None
    metadata = {"step": step, "source": "loop", "parents": {}}
    return {
        "config": {"configurable": {"checkpoint_id": name}}, "parent_config": parent, "metadata": metadata,
        "values": {"n": 1}, "next": [], "tasks": [],
    }  # fmt: skip


def test_checkpoints_are_told_without_what_only_nodes_are_to_find() -> None:
    made, book = feed("checkpoints", "debug")
    found = checkpoint("c2", before="c1")
    found["config"]["configurable"] |= {"degraded": [], "langgraph_auth_user": {"identity": "ann"}, "thread_id": "t"}
    found["tasks"] = [{"id": "1", "state": {"configurable": {"thread_id": "t", "checkpoint_ns": "sub:1"}}}, {"id": "2"}]
    made.take((), "checkpoints", found)
    made.take((), "debug", {"type": "checkpoint", "step": 0, "payload": found})
    made.take((), "debug", {"type": "task", "step": 1, "payload": {"id": "1"}})
    shown = {**found, "config": {"configurable": {"checkpoint_id": "c2", "thread_id": "t"}}}
    places = {
        "checkpoint": {"thread_id": "t", "checkpoint_id": "c2", "checkpoint_ns": ""},
        "parent_checkpoint": {"checkpoint_id": "c1", "checkpoint_ns": ""},
        "tasks": [{"id": "1", "checkpoint": {"thread_id": "t", "checkpoint_ns": "sub:1"}}, {"id": "2"}],
    }
    assert book.told == [
        ("checkpoints", shown),
        ("debug", {"type": "checkpoint", "step": 0, "payload": {**shown, **places}}),
        ("debug", {"type": "task", "step": 1, "payload": {"id": "1"}}),
    ]


def test_the_protocol_tells_a_checkpoint_before_its_values_and_only_where_it_stands() -> None:
    made, book = feed(*STREAM_MODE)
    made.take((), "checkpoints", checkpoint("c1", step=-1))
    made.take((), "values", {"n": 1})
    made.take((), "checkpoints", checkpoint("c2", before="c1"))
    assert book.told == [
        ("v3/checkpoints", {"id": "c1", "step": -1, "source": "loop"}),
        ("v3/checkpoints", {"id": "c2", "parent_id": "c1", "step": 0, "source": "loop"}),
        ("values", {"n": 1}),
    ]


def test_values_without_a_checkpoint_keep_their_place() -> None:
    made, book = feed(*STREAM_MODE)
    made.take(("sub:1",), "values", {"n": 1})
    made.take((), "checkpoints", checkpoint("c1"))
    made.take((), "values", {"n": 2})
    made.take((), "custom", {"n": 3})
    made.take((), "values", {"n": 4})
    made.close()
    assert book.names == ["values|sub:1", "v3/checkpoints", "values", "custom", "values"]


def test_the_protocol_says_which_tool_call_an_agent_works_for() -> None:
    made, book = feed(*STREAM_MODE)
    made.take((), "tasks", {"id": "t1", "name": "tools", "input": {"tool_call": {"id": "call-1"}}})
    made.take(("tools:t1",), "tasks", {"id": "t2", "input": {}, "metadata": {"lc_agent_name": "helper"}})
    made.take((), "tasks", {"id": "t1", "name": "tools", "result": {}, "interrupts": []})
    cause = {"type": "toolCall", "tool_call_id": "call-1"}
    told = {"event": "started", "namespace": ["tools:t1"], "graph_name": "helper", "trigger_call_id": "t1"}
    assert [data for name, data in book.told if name == "v3/lifecycle|tools:t1"] == [
        {**told, "cause": cause},
        {"event": "completed", "graph_name": "helper"},
    ]
