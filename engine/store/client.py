"""How a command reaches Redis: one value for the command, two ways to send it.

A :class:`Call` says what to do (a script or a plain command) and how to read the answer. :class:`SyncStore` sends
calls from threads (web, CLI, recovery); :class:`AsyncStore` sends them from a worker's event loop and puts all calls
that coroutines make at the same moment into one pipeline. So no store function is written twice.

Connections retry after a network fault. A script may therefore run twice when its reply was lost: every script is
written so that the second run changes nothing and answers the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import redis
import redis.asyncio
from hiredis import pack_command
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError as RedisConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError as RedisTimeoutError,
)
from redis.retry import Retry

from runyard.engine import errors, metrics
from runyard.engine.errors import Sealed
from runyard.engine.store.pipe import Pipe
from runyard.engine.store.scripts import Script, all_scripts
from runyard.engine.vault import Vault, opened

T = TypeVar("T")
Arg = str | bytes | int | float

#: Replies that mean "not now" rather than "never": the store is away, loading, a replica, or full.
AWAY = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OutOfMemoryError)
#: The same in replies that the driver has no class for: too few replicas, a disk that is full, a script that is slow.
AWAY_WORDS = frozenset({"NOREPLICAS", "MISCONF", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN"})

#: The first word of a script's error reply, and the error it stands for.
REPLIES: dict[str, type[errors.EngineError]] = {
    "LEASE_LOST": errors.LeaseLost,
    "RUN_NOT_FOUND": errors.RunNotFound,
    "THREAD_NOT_FOUND": errors.ThreadNotFound,
    "THREAD_EXISTS": errors.ThreadExists,
    "ASSISTANT_NOT_FOUND": errors.AssistantNotFound,
    "API_KEY_NOT_FOUND": errors.ApiKeyNotFound,
    "ASSISTANT_EXISTS": errors.AssistantExists,
    "THREAD_BUSY": errors.ThreadBusy,
    "IDEMPOTENCY_CONFLICT": errors.IdempotencyConflict,
    "RUN_IN_FLIGHT": errors.RunInFlight,
    "INVALID_TRANSITION": errors.InvalidTransition,
    "SAVE_MISSING": errors.StoreUnavailable,
}


def _same(reply: Any) -> Any:
    return reply


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One command for Redis and the way to read its answer.

    ``script`` with ``keys`` and ``args``, or, when ``script`` is None, a plain command in ``args``. All keys of a call
    share one hash tag.
    """

    script: Script | None
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    parse: Callable[[Any], T] = _same
    #: Whose the answer is, where the keys do not say: only their encrypted values are opened.
    owners: Callable[[Any], Sequence[str]] | None = None

    @classmethod
    def command(cls, *args: Arg, parse: Callable[[Any], T] = _same) -> Call[T]:
        return cls(None, (), args, parse)

    def opened(self, reply: Any, vault: Vault) -> Any:
        """The reply with what is encrypted in it opened, if it belongs to what was asked for; or the error that says
        why it cannot be, as a value."""
        if reply is None or isinstance(reply, Exception):
            return reply
        owners = self.owners(reply) if self.owners else ()
        named = self.keys if self.script else [word for word in self.args if isinstance(word, str)]

        def belongs(owner: str) -> bool:
            last, within = f":{owner}", f":{owner}:"
            return owner in owners or any(within in name or name.endswith(last) for name in named)

        try:
            return opened(vault, reply, belongs)
        except Sealed as error:
            return error

    def words(self, *, source: bool = False) -> tuple[Arg, ...]:
        """The words to send; with ``source`` the script's text goes along, for a server that does not know it yet."""
        if self.script is None:
            return self.args
        head = ("EVAL", self.script.source) if source else ("EVALSHA", self.script.sha)
        return (*head, len(self.keys), *self.keys, *self.args)

    def read(self, reply: Any) -> T:
        """Turn a reply into a value, or raise the error it stands for."""
        if isinstance(reply, Exception):
            raise translate(reply)
        return self.parse(reply)


def translate(error: Exception) -> Exception:
    """The engine's error for one of the driver's, or the driver's own where none is known (a bug of ours)."""
    if isinstance(error, AWAY):
        metrics.inc("runyard_store_unavailable_total")
        return errors.StoreUnavailable(f"The store (Redis) cannot be reached: {error}")
    if isinstance(error, ResponseError):
        word, _, rest = str(error).partition(" ")
        if known := REPLIES.get(word):
            if known is errors.LeaseLost:
                metrics.inc("runyard_fenced_writes_total")
            return known(rest or None)
        if word in AWAY_WORDS:
            return errors.StoreUnavailable(f"The store (Redis) cannot take this now: {error}")
    return error


#: A batch goes once so many turns of the loop in a row have brought no call. Runs that were answered together come back
#: within a few turns of each other; in one batch they share a turn of the store, and its write to the disk. A turn that
#: finds nothing to do takes half a microsecond.
QUIET_TURNS = 8
#: One that has so many calls is not held for more: a worker with many runs in hand would else have all of them wait for
#: the store together, and nothing to compute meanwhile.
ENOUGH = 4
#: How long a call that nobody waits for looks for a batch to go with, in seconds.
RIDES_WITHIN_S = 0.005
#: A call on its way, and who waits for its answer.
_Sent = tuple[Call[Any], "asyncio.Future[Any]"]


class SyncStore:
    """Sends calls from threads. Thread-safe: each call has a connection of its own for its round trip."""

    def __init__(self, client: redis.Redis, *, vault: Vault | None = None) -> None:
        self.client, self._vault = client, vault
        #: Connections that were used before, and the process that they belong to. To take one from the driver's pool
        #: costs more than to send a command.
        self._free: deque[Any] = deque()
        self._pid = os.getpid()

    @classmethod
    def connect(
        cls, url: str, *, retry_s: float = 3.0, timeout_s: float = 5.0, max_connections: int = 256,
        vault: Vault | None = None,
    ) -> SyncStore:  # fmt: skip
        """A store at ``url``. A call is tried again for about ``retry_s`` before it gives up. ``vault`` opens what is
        encrypted there; what is sent, :meth:`Keys.seal` encrypts."""
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=_Patience(retry_s),
            redis_connect_func=_greet,
            driver_info=None,  # else two commands, and a look at what is installed, for each connection
            health_check_interval=30,
        )
        return cls(redis.Redis(connection_pool=pool), vault=vault)

    def do(self, call: Call[T]) -> T:
        """Send one call. Raises StoreUnavailable, or what the script's reply stands for."""
        return cast(T, self.do_all([call])[0])

    def do_all(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Send calls in one round trip and raise the first error among their answers, after all have been sent."""
        return [call.read(reply) for call, reply in zip(calls, self.replies(calls), strict=True)]

    def replies(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Raw replies in order, errors among them as values."""
        if not calls:
            return []
        try:
            replies = self._send(calls, source=False)
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:  # somebody flushed them, or may not load them: the server learns them as it runs them
                for i, reply in zip(unknown, self._send([calls[i] for i in unknown], source=True), strict=True):
                    replies[i] = reply
        except RedisError as error:
            raise translate(error) from error
        if self._vault is not None:
            return [call.opened(reply, self._vault) for call, reply in zip(calls, replies, strict=True)]
        return replies

    def _send(self, calls: Sequence[Call[Any]], *, source: bool) -> list[Any]:
        """One write, and the replies as they come. The driver's pipeline does the same at twice the cost."""
        metrics.inc("runyard_store_round_trips_total")
        metrics.inc("runyard_store_calls_total", by=len(calls))
        packed = b"".join([pack_command(call.words(source=source)) for call in calls])  # type: ignore[arg-type]
        connection = self._take_connection()
        try:
            replies: list[Any] = connection.retry.call_with_retry(
                lambda: _exchange(connection, packed, len(calls)), lambda _: connection.disconnect()
            )
        except BaseException:
            connection.disconnect()  # replies may be on their way that belong to nobody
            raise
        finally:
            self._free.append(connection)
        return [self._as_the_driver_gives(call, reply) for call, reply in zip(calls, replies, strict=True)]

    def _take_connection(self) -> Any:
        """One that nobody uses. It may have been lost since it was used: sending finds out, and tries again."""
        if self._pid != os.getpid():  # a fork has none of its own yet
            self._free, self._pid = deque(), os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            return self.client.connection_pool.get_connection()

    def _as_the_driver_gives(self, call: Call[Any], reply: Any) -> Any:
        """Plain commands have answers that the driver turns into something handier: INFO a dict, for instance."""
        if call.script is not None or isinstance(reply, Exception):
            return reply
        shaped = self.client.response_callbacks.get(call.args[0])  # type: ignore[no-untyped-call]
        return shaped(reply) if shaped else reply

    def subscription(self) -> redis.client.PubSub:
        """A connection of its own that listens to channels; it subscribes anew by itself after a fault."""
        return self.client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-any-return, no-untyped-call]

    def close(self) -> None:
        while self._free:
            self.client.connection_pool.release(self._free.pop())
        self.client.close()
        self.client.connection_pool.disconnect()


class AsyncStore:
    """Sends calls from one event loop. Calls that are made at about the same moment, or while another batch is under
    way, go out together.

    Order is kept: calls are applied in the order in which they were made (but for scripts that somebody flushed from
    the server since this connected: those of the first batch come last). A caller that is cancelled while it waits does
    not take its call back.
    """

    def __init__(self, client: redis.asyncio.Redis, *, timeout_s: float = 5.0, vault: Vault | None = None) -> None:
        """``timeout_s``: for a batch to be answered. The client's own, which is one for each reply, should be off."""
        self.client, self._vault = client, vault
        self._timeout_s = timeout_s
        self._connection: redis.asyncio.Connection | None = None
        self._pipe: Pipe | None = None
        self._waiting: list[_Sent] = []
        #: What goes with the next batch, whichever it is.
        self._riding: list[_Sent] = []
        self._planned = self._busy = False
        #: While a batch is planned: calls seen at the loop's last turn, and turns since one came.
        self._seen = self._quiet = 0
        #: What connects, and tries again; and who waits until nothing is under way.
        self._mending: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    @classmethod
    def connect(
        cls, url: str, *, retry_s: float = 5.0, timeout_s: float = 5.0, vault: Vault | None = None
    ) -> AsyncStore:
        """A store at ``url``. A call is tried again for about ``retry_s`` before it gives up. ``vault`` as above."""
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=4,
            timeout=timeout_s,
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            retry=_AsyncPatience(retry_s),
            redis_connect_func=_agreet,
            driver_info=None,  # else two commands, and a look at what is installed, for each connection
            health_check_interval=30,
        )
        return cls(redis.asyncio.Redis(connection_pool=pool), timeout_s=timeout_s, vault=vault)

    async def do(self, call: Call[T]) -> T:
        """Send one call, with all that is called at about the same moment. Raises StoreUnavailable, or what the
        script's reply stands for."""
        return call.read(await self.send(call))

    def send(self, call: Call[Any]) -> asyncio.Future[Any]:
        """Send one call, ahead of what is sent after it. What it answers is for ``call.read``: errors are values."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((call, future))
        if not self._busy and not self._planned:
            self._plan(loop)
        return future

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._planned, self._seen, self._quiet = True, len(self._waiting), 0
        loop.call_soon(self._gather, loop)

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        came = len(self._waiting) - self._seen
        self._seen += came
        self._quiet = 0 if came else self._quiet + 1
        if self._quiet < QUIET_TURNS and self._seen < ENOUGH:
            loop.call_soon(self._gather, loop)
        else:
            self._send_next()

    async def ride(self, call: Call[T]) -> T:
        """As :meth:`do`, for what nobody waits for: it goes with the next batch, ahead of it, or after 5 ms alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._riding.append((call, future))
        if len(self._riding) == 1:
            loop.call_later(RIDES_WITHIN_S, self._ride_alone)
        return call.read(await future)

    def _ride_alone(self) -> None:
        if self._riding and not self._busy and not self._planned:
            self._send_next()

    async def do_all(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Send calls in one round trip, in order; raises the first error among their answers."""
        replies = await asyncio.gather(*[self.send(call) for call in calls])
        return [call.read(reply) for call, reply in zip(calls, replies, strict=True)]

    def _send_next(self) -> None:
        self._planned = False
        if self._busy:
            return
        if not self._waiting and not self._riding:
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
            return
        batch, self._waiting, self._riding, self._busy = [*self._riding, *self._waiting], [], [], True
        self._transmit(batch)

    def _transmit(self, batch: list[_Sent]) -> None:
        if self._pipe is None or not self._pipe.is_open:
            self._mend(batch)
            return
        try:
            packed = _packed(batch, source=False)
        except Exception as error:  # noqa: BLE001 - words that cannot be sent are their callers' affair: others go on
            self._settle(batch, [error] * len(batch))
            return
        self._pipe.send(packed, len(batch), partial(self._answered, batch))

    def _answered(self, batch: list[_Sent], said: list[Any] | Exception) -> None:
        if isinstance(said, Exception):
            self._mend(batch)
        elif any(isinstance(reply, NoScriptError) for reply in said):
            self._mend(batch, said)
        else:
            self._settle(batch, said)

    def _settle(self, batch: list[_Sent], replies: list[Any]) -> None:
        for (call, future), reply in zip(batch, replies, strict=True):
            if not future.done():
                future.set_result(reply if self._vault is None else call.opened(reply, self._vault))
        self._busy = False
        if self._waiting:
            self._plan(asyncio.get_running_loop())
        else:
            self._send_next()

    def _mend(self, batch: list[_Sent], replies: list[Any] | None = None) -> None:
        """What a batch needs that cannot be had at once: a connection, another try, scripts that were forgotten."""
        self._mending = asyncio.get_running_loop().create_task(self._mended(batch, replies))

    async def _mended(self, batch: list[_Sent], replies: list[Any] | None) -> None:
        try:
            replies = replies or await self._tried_again(_packed(batch, source=False), len(batch))
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                taught = await self._tried_again(_packed([batch[i] for i in unknown], source=True), len(unknown))
                for i, reply in zip(unknown, taught, strict=True):
                    replies[i] = reply
        except Exception as error:  # noqa: BLE001 - the batch's callers each get it: what comes after it goes on
            replies = [error] * len(batch)
        except asyncio.CancelledError:  # the loop ends
            self._settle(batch, [RedisConnectionError("The event loop has ended.")] * len(batch))
            raise
        self._settle(batch, replies)

    async def _tried_again(self, packed: bytes, count: int) -> list[Any]:
        if self._connection is None:
            self._connection = await self.client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        connection = self._connection
        replies: list[Any] = await connection.retry.call_with_retry(
            lambda: self._on_a_new_pipe(connection, packed, count), lambda _: connection.disconnect(nowait=True)
        )
        return replies

    async def _on_a_new_pipe(self, connection: redis.asyncio.Connection, packed: bytes, count: int) -> list[Any]:
        if self._pipe is None or not self._pipe.is_open:
            await connection.disconnect(nowait=True)
            await connection.connect()  # type: ignore[no-untyped-call]
            self._pipe = Pipe(connection, timeout_s=self._timeout_s)
        return await self._pipe.exchange(packed, count)

    async def close(self) -> None:
        """Leave the store, once everything that was called has been answered."""
        while self._busy or self._waiting or self._riding:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            await self.client.connection_pool.release(self._connection)
            self._connection = self._pipe = None
        await self.client.aclose()
        await self.client.connection_pool.disconnect()


def _packed(batch: Sequence[_Sent], *, source: bool) -> bytes:
    metrics.inc("runyard_store_round_trips_total")
    metrics.inc("runyard_store_calls_total", by=len(batch))
    return b"".join([pack_command(call.words(source=source)) for call, _ in batch])  # type: ignore[arg-type]


def _exchange(connection: Any, packed: bytes, count: int) -> list[Any]:
    connection.send_packed_command([packed])
    replies: list[Any] = []
    for _ in range(count):
        try:
            replies.append(connection.read_response())
        except ResponseError as error:  # what the server answered
            replies.append(error)
    return replies


class _UntilLate:
    """Tries again until so many seconds have passed, however long each try took: a server that hangs costs no more
    than one that refuses, plus the last try's timeout. One for each connection, as the driver copies it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(ExponentialBackoff(cap=0.5, base=0.02), -1)  # type: ignore[call-arg]  # see the two below
        self._seconds = seconds

    def call_with_retry(
        self,
        do: Any,
        fail: Any,
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        ends = time.monotonic() + self._seconds

        def worth_it(error: Exception) -> bool:
            self._retries = -1 if time.monotonic() < ends else 0
            return is_retryable is None or is_retryable(error)

        return super().call_with_retry(do, fail, worth_it, with_failure_count)  # type: ignore[misc]


class _Patience(_UntilLate, Retry):
    pass


class _AsyncPatience(_UntilLate, AsyncRetry):
    pass


def _greet(connection: Any) -> None:
    """Teach a server its scripts before the first call: one that was restarted or failed over knows none, and calls
    of one batch that had to be sent again would be applied after those behind them."""
    connection.on_connect()
    scripts = all_scripts()
    connection.send_command("SCRIPT", "EXISTS", *(script.sha for script in scripts))
    with contextlib.suppress(ResponseError):  # not allowed to ask: then each script is taught when it is not known
        for script, known in zip(scripts, connection.read_response(), strict=True):
            if not known:
                connection.send_command("SCRIPT", "LOAD", script.source)
                connection.read_response()


async def _agreet(connection: Any) -> None:
    """As :func:`_greet`."""
    await connection.on_connect()
    scripts = all_scripts()
    await connection.send_command("SCRIPT", "EXISTS", *(script.sha for script in scripts))
    with contextlib.suppress(ResponseError):
        for script, known in zip(scripts, await connection.read_response(), strict=True):
            if not known:
                await connection.send_command("SCRIPT", "LOAD", script.source)
                await connection.read_response()
