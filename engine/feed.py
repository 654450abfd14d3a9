"""From what LangGraph streams to what readers of a run see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk

from runyard.engine import wire
from runyard.engine.protocol import MODES as PROTOCOL_MODES, PROTOCOL, ProtocolFeed
from runyard.engine.run import RunRequest

#: Told of every event: its name, and its JSON.
Tell = Callable[[str, bytes], None]
INTERRUPT_KEY = "__interrupt__"

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

    def __init__(
        self,
        request: RunRequest,
        tell: Tell,
        *,
        repeats: bool = False,
        repeated: list[str] | None = None,
        nodes_only: bool = False,
    ) -> None:
        """Tell what ``request`` asks for.

        ``repeats``: the first root values were told before, and so was what finished nodes had saved; ``repeated`` are
        nodes that repeat themselves without saying so. ``nodes_only``: a branch tells only what its nodes do; what the
        whole superstep comes to is told by the run.
        """
        self._asked = frozenset(request.stream_mode)
        self._told = tell
        self._skip_values = repeats
        self._skip_cached = repeats or nodes_only
        self._repeated = repeated if repeated is not None else []
        self._nodes_only = nodes_only
        self._messages = _LegacyMessages()
        self._protocol = ProtocolFeed(self._tell) if PROTOCOL in self._asked else None
        #: The latest values of the graph, without what it is interrupted by.
        self.values: Any = None
        #: Whether the graph stopped at an interrupt or a breakpoint.
        self.interrupted = False

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
            self._tell(mode, namespace, data)

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
        yield "messages/partial", [grown]


def _without_interrupts(values: Any) -> Any:
    if isinstance(values, dict) and INTERRUPT_KEY in values:
        return {key: value for key, value in values.items() if key != INTERRUPT_KEY}
    return values
