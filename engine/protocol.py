"""What a run tells clients of the thread-centric protocol (langchain-protocol, "v3"), beside what it tells all others.

A client of that protocol sees messages as content blocks, tool calls, the life of subgraphs, and what the graph asks.
These are events of the run like any other; their names begin with ``v3/``, and no other client is shown them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Namespace = tuple[str, ...]
Tell = Callable[[str, Namespace, Any], None]

#: Stands in a run's stream modes for all that the protocol's channels need.
PROTOCOL = "protocol"
#: LangGraph's modes behind the channels.
MODES = ("values", "updates", "messages", "custom", "tasks", "checkpoints", "tools")
#: The stream modes of a run that is started through the protocol.
STREAM_MODE = ("values", "updates", "custom", "tasks", PROTOCOL)

PREFIX = "v3/"
MESSAGES, TOOLS, LIFECYCLE, ASKED = "v3/messages", "v3/tools", "v3/lifecycle", "v3/input.requested"
CHECKPOINTS = "v3/checkpoints"


def checkpoint_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the protocol says of a checkpoint: what to fork from, and where it stands in the thread."""
    ids = {name: ((told.get(key) or {}).get("configurable") or {}).get("checkpoint_id") for name, key in _CONFIGS}
    metadata = told.get("metadata") or {}
    return {**{name: found for name, found in ids.items() if found}, **{key: metadata.get(key) for key in _PLACE}}


_CONFIGS = (("id", "config"), ("parent_id", "parent_config"))
_PLACE = ("step", "source")


class ProtocolFeed:
    """Turns parts of LangGraph's stream into the protocol's events."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        #: The message that a model's run is telling.
        self._messages: dict[str, str] = {}
        #: Subgraphs that were seen to start, by the task they run in.
        self._subgraphs: dict[tuple[Namespace, str], tuple[Namespace, str]] = {}
        #: The model's call of a tool, by the task that carries it out.
        self._calls: dict[str, str] = {}
        #: Values that wait to see whether the next part is the checkpoint they were saved with.
        self._held: tuple[Namespace, Any] | None = None
        self._asked: set[str] = set()

    def take(self, namespace: Namespace, mode: str, data: Any) -> bool:
        """Whether that was all there is to tell of this part."""
        if mode == "checkpoints":
            self._take_checkpoint(namespace, data)
            return True
        self.close()
        if mode == "messages":
            self._take_message(namespace, *data)
        elif mode == "tools":
            self._tell(TOOLS, namespace, data)
        elif mode == "tasks":
            self._take_task(namespace, data)
            return False
        return mode in ("messages", "tools")

    def hold(self, namespace: Namespace, values: Any) -> None:
        """Tell values, once it is known whether a checkpoint goes before them.

        LangGraph tells values and then their checkpoint; clients of the protocol take the checkpoint that came last for
        the one of the values that follow, and fork from it when a person edits a message.
        """
        self._held = (namespace, values)

    def close(self) -> None:
        """Tell what is held back."""
        if self._held is not None:
            namespace, values = self._held
            self._held = None
            self._tell("values", namespace, values)

    def _take_checkpoint(self, namespace: Namespace, data: Mapping[str, Any]) -> None:
        if self._held is not None and self._held[0] != namespace:
            self.close()
        self._tell(CHECKPOINTS, namespace, checkpoint_of(data))
        self.close()

    def ask(self, namespace: Namespace, interrupts: Iterable[Any]) -> None:
        """Tell what the graph asks, once: a subgraph's interrupt is its parent's, too."""
        for interrupt in interrupts:
            if interrupt.id not in self._asked:
                self._asked.add(interrupt.id)
                # The protocol says `payload`, the Python SDK reads `value`.
                told = {"interrupt_id": interrupt.id, "payload": interrupt.value, "value": interrupt.value}
                self._tell(ASKED, namespace, told)

    def _take_message(self, namespace: Namespace, message: Any, metadata: Mapping[str, Any]) -> None:
        """A block of what a model says. Messages that a node returns are in the values, and are not told again."""
        if isinstance(message, dict):
            self._take_block(namespace, message, metadata)

    def _take_block(self, namespace: Namespace, event: dict[str, Any], metadata: Mapping[str, Any]) -> None:
        run_id = str(metadata.get("run_id", ""))
        if event["event"] == "message-start":
            self._messages[run_id] = str(event.get("id") or event.get("message_id") or run_id)
        self._tell_block(namespace, event, self._messages.get(run_id, run_id), metadata)
        if event["event"] in ("message-finish", "error"):
            self._messages.pop(run_id, None)

    def _tell_block(
        self, namespace: Namespace, event: dict[str, Any], message_id: str, metadata: Mapping[str, Any]
    ) -> None:
        """Every event names its message, so that those of two messages at once can be told apart."""
        told = {**event, "id": message_id}
        if event["event"] == "message-start":
            known = ("langgraph_node", "run_id", "ls_provider", "ls_model_name")
            told["metadata"] = {**event.get("metadata", {}), **{k: metadata[k] for k in known if k in metadata}}
        self._tell(MESSAGES, namespace, told)

    def _take_task(self, namespace: Namespace, data: Mapping[str, Any]) -> None:
        if namespace:
            self._started(namespace, data)
        if "result" in data:
            self._ended(namespace, data)
        elif call := _tool_call(data.get("input")):
            self._calls[str(data.get("id"))] = call

    def _started(self, namespace: Namespace, data: Mapping[str, Any]) -> None:
        name, _, task_id = namespace[-1].partition(":")
        if (place := (namespace[:-1], task_id)) in self._subgraphs:
            return
        agent = (data.get("metadata") or {}).get("lc_agent_name")
        self._subgraphs[place] = (namespace, agent or name)
        told = {"event": "started", "namespace": list(namespace), "graph_name": agent or name}
        told |= {"trigger_call_id": task_id} if task_id else {}
        if agent and (call := self._calls.get(task_id)):  # an agent that works for a tool call of another
            told["cause"] = {"type": "toolCall", "tool_call_id": call}
        self._tell(LIFECYCLE, namespace, told)

    def _ended(self, parent: Namespace, data: Mapping[str, Any]) -> None:
        self._calls.pop(str(data.get("id")), None)
        found = self._subgraphs.pop((parent, str(data.get("id"))), None)
        if found is None:
            return
        child, name = found
        told = {"event": "completed", "graph_name": name}
        if data.get("interrupts"):
            told["event"] = "interrupted"
        elif data.get("error"):
            told |= {"event": "failed", "error": str(data["error"])}
        self._tell(LIFECYCLE, child, told)


def _tool_call(given: Any) -> str | None:
    """The id of the tool call that a task carries out: it is the task's input, or the first in a list of them."""
    calls = [given.get("tool_call")] if isinstance(given, dict) else given if isinstance(given, list) else []
    ids = (call.get("id") for call in calls if isinstance(call, dict))
    return next((found for found in ids if isinstance(found, str)), None)
