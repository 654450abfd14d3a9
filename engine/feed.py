"""From what LangGraph streams to what readers of a run see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

from runyard.engine import wire
from runyard.engine.protocol import MODES as PROTOCOL_MODES, PROTOCOL, ProtocolFeed
from runyard.engine.run import RunRequest
from runyard.engine.shape import checkpoint_of
from runyard.engine.wire import INTERRUPT_KEY

#: Told of every event: its name, and its JSON.
Tell = Callable[[str, bytes], None]
#: What nodes find in ``config["configurable"]`` and no stream tells.
PRIVATE = frozenset({"degraded", "langgraph_auth_user", "langgraph_auth_user_id", "langgraph_auth_permissions"})

#: Clients' words for LangGraph's one `messages` mode.
_MESSAGES = ("messages", "messages-tuple")


def modes_of(request: RunRequest, *, may_stop: bool) -> list[str]:
    """LangGraph's stream modes for a run: what was asked for, and what the slice needs: the result, and of a run that
    ``may_stop`` at a breakpoint the sign that it has. Each mode costs something with every superstep."""
    needed = ("values", "updates") if may_stop else ("values",)
    if PROTOCOL in request.stream_mode:
        return list(dict.fromkeys([*needed, *PROTOCOL_MODES]))
    asked = ["messages" if mode in _MESSAGES else mode for mode in request.stream_mode if mode != "events"]
    return list(dict.fromkeys([*needed, *asked]))


class Feed:
    """Turns parts of LangGraph's stream into events and remembers what the outcome needs."""

    __slots__ = (
        "_asked", "_messages", "_nested", "_nodes_only", "_protocol", "_repeated", "_skip_cached", "_skip_values",
        "_told", "interrupted", "values",
    )  # fmt: skip

    def __init__(
        self,
        request: RunRequest,
        tell: Tell,
        *,
        stale: bool = False,
        repeats: bool = False,
        repeated: list[str] | None = None,
        nodes_only: bool = False,
    ) -> None:
        """Tell what ``request`` asks for.

        ``stale``: the first root values were told before. ``repeats``: what finished nodes had saved was;
        ``repeated`` are nodes that repeat themselves without saying so. ``nodes_only``: a branch tells only what its
        nodes do; what the whole superstep comes to is told by the run.
        """
        self._asked, self._nested = tuple(request.stream_mode), request.stream_subgraphs
        self._told = tell
        self._skip_values = stale
        self._skip_cached = repeats or nodes_only
        self._repeated = repeated if repeated is not None else []
        self._nodes_only = nodes_only
        self._messages: _LegacyMessages | None = None
        self._protocol = ProtocolFeed(self._tell) if PROTOCOL in self._asked else None
        #: The latest values of the graph, without what it is interrupted by.
        self.values: Any = None
        #: Whether the graph stopped at an interrupt or a breakpoint.
        self.interrupted = False

    def take_part(self, part: Any) -> None:
        """One part of LangGraph's stream of the request, in the shape that this has asked for."""
        if isinstance(part, dict):
            self.take(part["ns"], part["type"], part["data"])
        elif self._nested:
            self.take(*part)
        else:
            self.take((), *part)

    def take(self, namespace: tuple[str, ...], mode: str, data: Any) -> None:
        """One part of the stream."""
        if self._protocol is not None and self._protocol.take(namespace, mode, data):
            return
        if mode == "values":
            self._take_values(namespace, data)
        elif mode == "updates":
            self._take_updates(namespace, data)
        elif mode == "messages":
            self._take_message(namespace, data)
        elif mode in self._asked:
            self._tell(mode, namespace, _PUBLIC.get(mode, _as_it_is)(data))

    def close(self) -> None:
        """Tell what is held back: there are no more parts."""
        if self._protocol is not None:
            self._protocol.close()

    def _take_values(self, namespace: tuple[str, ...], data: Any) -> None:
        if not namespace:
            if self._nodes_only:
                return
            self.values = _without_interrupts(data)
            if self.values is not data:
                self.interrupted = True
            if self._skip_values:
                self._skip_values = False
                return
        if "values" in self._asked:
            self._tell_values(namespace, data)

    def _tell_values(self, namespace: tuple[str, ...], data: Any) -> None:
        if self._protocol is None:
            self._tell("values", namespace, data)
        else:
            self._protocol.hold(namespace, data)

    def _take_updates(self, namespace: tuple[str, ...], data: Any) -> None:
        if not namespace and INTERRUPT_KEY in data:
            self.interrupted = True
            if self._nodes_only:
                return
        if self._protocol is not None and INTERRUPT_KEY in data:
            self._protocol.ask(namespace, data[INTERRUPT_KEY])
        if self._skip_cached and self._is_repeated(namespace, data):  # finished and told before, by another worker
            return
        if "updates" in self._asked:
            self._tell("updates", namespace, data)

    def _is_repeated(self, namespace: tuple[str, ...], data: Any) -> bool:
        if "__metadata__" in data:
            return True
        for node in () if namespace else self._repeated:
            if node in data:
                self._repeated.remove(node)
                return True
        return False

    def _take_message(self, namespace: tuple[str, ...], data: Any) -> None:
        if "messages-tuple" in self._asked:
            self._tell("messages", namespace, data)
        if "messages" in self._asked:
            self._messages = self._messages or _LegacyMessages()
            for name, event in self._messages.events(*data):
                self._tell(name, namespace, event)

    def _tell(self, name: str, namespace: tuple[str, ...], data: Any) -> None:
        self._told("|".join((name, *namespace)), wire.encode(data))


class _LegacyMessages:
    """The older `messages` mode: each message whole, as far as it has come."""

    def __init__(self) -> None:
        self._so_far: dict[str | None, BaseMessage] = {}

    def events(self, message: BaseMessage, metadata: dict[str, Any]) -> Iterable[tuple[str, Any]]:
        known = self._so_far.get(message.id)
        if known is None:
            yield "messages/metadata", {message.id: {"metadata": metadata}}
        if not isinstance(message, BaseMessageChunk):
            self._so_far[message.id] = message
            yield "messages/complete", [message]
            return
        grown = known + message if isinstance(known, BaseMessageChunk) else message
        self._so_far[message.id] = grown
        yield "messages/partial", [message_chunk_to_message(grown)]


def _without_interrupts(values: Any) -> Any:
    if isinstance(values, dict) and INTERRUPT_KEY in values:
        return {key: value for key, value in values.items() if key != INTERRUPT_KEY}
    return values


def _as_it_is(data: Any) -> Any:
    return data


def _checkpoint(payload: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as LangGraph tells it, without what only nodes are to find in its config."""
    return {**payload, **{name: _public(payload.get(name)) for name in ("config", "parent_config")}}


def _public(config: dict[str, Any] | None) -> dict[str, Any] | None:
    if not config:
        return config
    shown = {key: value for key, value in config["configurable"].items() if key not in PRIVATE}
    return {**config, "configurable": shown}


def _debug(record: dict[str, Any]) -> dict[str, Any]:
    if record["type"] != "checkpoint":
        return record
    payload = _checkpoint(record["payload"])
    places = {"checkpoint": payload["config"], "parent_checkpoint": payload["parent_config"]}
    tasks = [_pointing(task) for task in payload["tasks"]]
    told = {**payload, **{name: checkpoint_of(at) for name, at in places.items()}, "tasks": tasks}
    return {**record, "payload": told}


def _pointing(task: dict[str, Any]) -> dict[str, Any]:
    """A task whose subgraph is under way, with the place of its checkpoints instead of a config."""
    if not task.get("state"):
        return task
    return {**{key: value for key, value in task.items() if key != "state"}, "checkpoint": checkpoint_of(task["state"])}


#: What becomes of a part before it is told, by its mode.
_PUBLIC: dict[str, Callable[[Any], Any]] = {"checkpoints": _checkpoint, "debug": _debug}
