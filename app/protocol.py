"""The thread-centric protocol's events: what one subscription wants to see, and how an event is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runyard.app.sse import frame
from runyard.engine import wire
from runyard.engine.protocol import ASKED, PREFIX, checkpoint_of
from runyard.engine.run import Phase, Run
from runyard.engine.store.events import END
from runyard.engine.thread_events import BEGIN, ThreadEvent

CHANNELS = ("values", "updates", "messages", "tools", "custom", "lifecycle", "input", "tasks", "checkpoints")
CUSTOM = "custom:"
#: What a client listens to besides the streams it reads a run's answer from.
_ASIDE = frozenset({"lifecycle", "input"})
#: How old a question is at least when such a listener is told of it, in seconds.
QUESTION_AGE_S = 0.25
#: Events whose data the protocol takes as LangGraph made them.
_PLAIN = frozenset({"values", "updates", "custom", "tasks"})
_LAST = {Phase.SUCCEEDED: "completed", Phase.PAUSED: "interrupted", Phase.CANCELLED: "interrupted"}

Namespace = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a client wants to see. A namespace stands for all below it, down to ``depth`` below it.

    Without namespaces it is everything, and ``depth`` says nothing.
    """

    channels: frozenset[str]
    namespaces: list[Namespace] | None = None
    depth: int | None = None

    def shows(self, channel: str, namespace: Namespace, data: bytes) -> bool:
        return self._wants(channel, data) and self._is_near(namespace)

    @property
    def is_below_the_root(self) -> bool:
        """Whether it is about subgraphs only."""
        return bool(self.namespaces) and all(self.namespaces or ())

    def _wants(self, channel: str, data: bytes) -> bool:
        if channel in self.channels or channel != "custom":
            return channel in self.channels
        names = {name.removeprefix(CUSTOM) for name in self.channels if name.startswith(CUSTOM)}
        told = wire.decode(data) if names else None
        return isinstance(told, dict) and told.get("name") in names

    def _is_near(self, namespace: Namespace) -> bool:
        return not self.namespaces or any(
            is_below(namespace, prefix) and (self.depth is None or len(namespace) - len(prefix) <= self.depth)
            for prefix in self.namespaces
        )


def hold(subscription: Subscription) -> Callable[[ThreadEvent], float]:
    """Says for how many seconds more an event must not be told to the subscription.

    LangGraph's Python client hears a thread's life on a connection of its own, and ends what it reads on others when
    the graph asks something. A run that asks within milliseconds would cut off what it told before. Only clients that
    listen to nothing else wait; ages are by the store's clock and this machine's, so a skew may make it less or none.
    """
    if not subscription.channels <= _ASIDE:
        return lambda _: 0.0

    def left(found: ThreadEvent) -> float:
        if found.event.name.partition("|")[0] != ASKED:
            return 0.0
        return min(max(found.event.at_ms / 1000 + QUESTION_AGE_S - time.time(), 0.0), QUESTION_AGE_S)

    return left


def is_below(namespace: Namespace, prefix: Namespace) -> bool:
    """Whether a namespace begins with a prefix, whose parts may leave out the id after the colon."""
    parts = zip(prefix, namespace, strict=False)
    return len(prefix) <= len(namespace) and all(
        part == wanted or (":" not in wanted and part.partition(":")[0] == wanted) for wanted, part in parts
    )


def shower(subscription: Subscription) -> Callable[[ThreadEvent], bytes]:
    """Makes the frame of an event that the subscription wants to see, and nothing of the others."""

    def shown(found: ThreadEvent) -> bytes:
        told = method_of(found)
        if told is None:
            return b""
        method, namespace, data = told
        channel = "input" if method == "input.requested" else method
        if not subscription.shows(channel, namespace, data):
            return b""
        return frame(method, envelope(found, method, namespace, data), str(found.event.seq))

    return shown


def method_of(found: ThreadEvent) -> tuple[str, Namespace, bytes] | None:
    """An event's method, namespace and data; None for what the protocol has no word for."""
    name, *namespace = found.event.name.split("|")
    if name in (BEGIN, END):
        return "lifecycle", [], wire.encode(_lifecycle(found.run, begins=name == BEGIN))
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX), namespace, found.event.data
    if name == "checkpoints":  # of a run that another door has started, in LangGraph's words
        return name, namespace, wire.encode(checkpoint_of(wire.decode(found.event.data)))
    return (name, namespace, found.event.data) if name in _PLAIN else None


def _lifecycle(run: Run, *, begins: bool) -> dict[str, Any]:
    told = {"event": "running" if begins else _LAST.get(run.phase, "failed"), "graph_name": run.graph_id}
    if told["event"] == "failed":
        told["error"] = str((run.error or {}).get("message") or f"The run ended as {run.status}.")
    return told


def envelope(found: ThreadEvent, method: str, namespace: Namespace, data: bytes) -> bytes:
    """The event as JSON; its data is JSON already.

    Events that no graph told are named after their run: that is how clients learn what to cancel.
    """
    event = found.event
    event_id = f"synth:{found.run.run_id}:{event.seq}" if event.name in (BEGIN, END) else str(event.seq)
    params = b'{"namespace":%b,"timestamp":%d,"data":%b}' % (wire.encode(namespace), event.at_ms, data)
    head = b'{"type":"event","event_id":"%b","seq":%d,"method":"%b"' % (event_id.encode(), event.seq, method.encode())
    return head + b',"params":' + params + b"}"
