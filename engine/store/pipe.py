"""A connection to the store that carries batches: one write for the words of a batch, its replies as they come.

The driver connects, says who we are, and connects anew after a fault. In between it would take a task for each write, a
timer and several coroutines for each reply; here bytes go from the event loop to the parser with nothing in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError, InvalidResponse, TimeoutError as RedisTimeoutError

#: Told of a batch: its replies in order, errors that the server answered among them; or why there are none.
Answered = Callable[[list[Any] | Exception], None]
_MORE = object()


class Pipe(asyncio.Protocol):
    """One batch at a time. It belongs to the event loop it was made on."""

    def __init__(self, connection: redis.asyncio.Connection, *, timeout_s: float) -> None:
        """Take over a connection that has been made and greeted: its streams are not to be used any more."""
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001 - the driver's classes for what a server answers
            notEnoughData=_MORE,
        )
        self._replies: list[Any] = []
        self._due = 0
        self._answered: Answered | None = None
        self._timer: asyncio.TimerHandle | None = None
        writer = connection._writer  # noqa: SLF001 - the driver has no other way to hand over its transport
        if writer is None:
            raise RedisConnectionError("The connection was lost before it was used.")
        self._transport = writer.transport
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def send(self, packed: bytes, count: int, answered: Answered) -> None:
        """Send the words of ``count`` commands; ``answered`` is called once, on the loop, within the time limit."""
        self._replies, self._due, self._answered = [], count, answered
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._too_late)
        self._transport.write(packed)

    async def exchange(self, packed: bytes, count: int) -> list[Any]:
        """As :meth:`send`, awaited. Raises ConnectionError or TimeoutError of the driver."""
        future: asyncio.Future[list[Any] | Exception] = asyncio.get_running_loop().create_future()

        def answered(said: list[Any] | Exception) -> None:
            if not future.done():
                future.set_result(said)

        self.send(packed, count, answered)
        said = await future
        if isinstance(said, Exception):
            raise said
        return said

    # --- what the event loop tells

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            self._take()
        except Exception as error:  # noqa: BLE001 - what is no reply: the connection is of no use any more
            self._end(error)

    def eof_received(self) -> None:
        self._end(RedisConnectionError("The store closed the connection."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RedisConnectionError(f"The connection to the store was lost: {exc}"))

    def _take(self) -> None:
        while (reply := self._reader.gets()) is not _MORE:
            if isinstance(reply, hiredis.PushNotification):
                continue  # nobody here has asked for any
            if isinstance(reply, RedisConnectionError):  # such as LOADING: not now, on another connection perhaps
                raise reply
            self._replies.append(reply)
            if len(self._replies) == self._due:
                self._tell(self._replies)

    def _too_late(self) -> None:
        self._end(RedisTimeoutError(f"no answer within {self._timeout_s:g} s"))

    def _end(self, error: Exception) -> None:
        if self.is_open:
            self._transport.abort()
        self._tell(error)

    def _tell(self, said: list[Any] | Exception) -> None:
        answered, self._answered, self._due = self._answered, None, 0
        if self._timer is not None:
            self._timer.cancel()
        if answered is not None:
            answered(said)
