"""What the thread-centric protocol's feed makes of LangGraph's parts."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from runyard.engine.protocol import MESSAGES, Namespace, ProtocolFeed


def test_messages_are_what_models_say_and_not_what_nodes_return() -> None:
    told: list[tuple[str, Any]] = []

    def tell(name: str, namespace: Namespace, data: Any) -> None:
        told.append((name, data["event"]))

    feed = ProtocolFeed(tell)
    said = {"run_id": "r", "langgraph_node": "talk"}
    for message in ({"event": "message-start", "id": "m"}, {"event": "message-finish"}):
        assert feed.take((), "messages", (message, said))
    for message in (AIMessage("done", id="n"), AIMessageChunk("do", id="n")):
        assert feed.take((), "messages", (message, said))
    assert told == [(MESSAGES, "message-start"), (MESSAGES, "message-finish")]
