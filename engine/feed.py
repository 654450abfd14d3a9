"""From what LangGraph streams to what readers of a run see, written to the run's stream as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk

from runyard.engine import wire
from runyard.engine.protocol import MODES as PROTOCOL_MODES, PROTOCOL, ProtocolFeed
from runyard.engine.run import RunRequest
from runyard.engine.store import events
from runyard.engine.store.client import AsyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys

#: How long an event may wait for the checkpoint of its superstep to ride with, in seconds: a round trip less for each
#: superstep, and nothing a person who reads along can see.
PATIENCE_S = 0.003
INTERRUPT_KEY = "__interrupt__"

#: What the slice itself needs: the result, the sign of an interrupt, and a waiter for every superstep (see seam).
_INTERNAL = ("values", "updates", "custom")
#: Clients' words for LangGraph's one `messages` mode.
_MESSAGES = ("messages", "messages-tuple")


def modes_of(request: RunRequest) -> list[str]:
    """LangGraph's stream modes for a run: what was asked for, and what the slice needs."""
    if PROTOCOL in request.stream_mode:
        return list(dict.fromkeys([*_INTERNAL, *PROTOCOL_MODES]))
    asked = ["messages" if mode in _MESSAGES else mode for mode in request.stream_mode if mode != "events"]
    return list(dict.fromkeys([*_INTERNAL, *asked]))


class Writer:
    """Appends a run's events under the lease, in order, each once.

    One append is under way at a time; what comes in the meantime goes with the next, so a slow store makes larger
    appends, not more of them.
    """

    def __init__(
        self, store: AsyncStore, keys: Keys, run_id: str, fence: Fence, *, keep: int, thread_id: str | None = None
    ) -> None:
        self._store, self._keys, self._run_id, self._fence, self._keep = store, keys, run_id, fence, keep
        self._thread_id = thread_id
        self._pending: list[tuple[str, bytes]] = []
        self._written = 0
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None

    def add(self, name: str, data: bytes) -> None:
        self._pending.append((name, data))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Wait until everything is written. Raises LeaseLost or StoreUnavailable if it could not be."""
        if (task := self._task) is not None:
            await asyncio.sleep(0)  # it hands over what it has
            self._store.hurry()  # nothing else will come to ride with
            await task
        if self._error is not None:
            raise self._error

    async def _write(self) -> None:
        try:
            while self._pending and self._error is None:
                batch, self._pending = self._pending, []
                await self._append(batch)
        except Exception as error:  # noqa: BLE001 - raised to the slice by close()
            self._error = error
        finally:
            self._task = None

    async def begin(self) -> None:
        """Let readers of the thread know of the run, which tells nothing itself."""
        await self._append([])

    async def _append(self, batch: list[tuple[str, bytes]]) -> None:
        self._written = await self._store.do(
            events.append(
                self._keys, self._run_id, self._fence, self._written, batch, keep=self._keep, thread_id=self._thread_id
            ),
            patience_s=PATIENCE_S,
        )


class Feed:
    """Turns parts of LangGraph's stream into events and remembers what the outcome needs."""

    def __init__(
        self,
        request: RunRequest,
        writer: Writer,
        *,
        repeats: bool = False,
        repeated: list[str] | None = None,
        nodes_only: bool = False,
    ) -> None:
        """Tell through ``writer`` what ``request`` asks for.

        ``repeats``: the first root values were told before, and so was what finished nodes had saved; ``repeated`` are
        nodes that repeat themselves without saying so. ``nodes_only``: a branch tells only what its nodes do; what the
        whole superstep comes to is told by the run.
        """
        self._asked = frozenset(request.stream_mode)
        self._writer = writer
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

    def _take_values(self, namespace: tuple[str, ...], data: Any) -> None:
        if not namespace:
            if self._nodes_only:
                return
            self.values = _without_interrupts(data)
            if self._skip_values:
                self._skip_values = False
                return
        if "values" in self._asked:
            self._tell("values", namespace, data)

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
        self._writer.add("|".join((name, *namespace)), wire.encode(data))


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
