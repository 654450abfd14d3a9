"""Serves what takes long without holding a thread: one event loop for all the streams and waits of a process.

A view answers with a :class:`Stream`. Under gunicorn its client's connection is taken over: the request's thread is
free for the next request, and the loop writes to the client whenever there is something to tell. A client that reads
slowly is waited for, by its own coroutine alone; nothing is kept for it but one write. Our own gunicorn worker lends
the connection and has it back for the client's next request; of gunicorn's own it is taken for good. Where there is no
connection to take over (another server, TLS, a test client) the request's thread pulls the parts out of the loop
instead.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, TypeVar, cast

import structlog

from runyard.engine.live import Live

log = structlog.get_logger(__name__)

#: How much may wait for a slow reader before its coroutine waits, in bytes.
MOST_UNSENT = 65_536
#: A client that takes nothing for so long is given up.
STALLED_S = 60.0
#: Descriptors that a process keeps for what is not a stream: the store, short requests, files.
SPARE_DESCRIPTORS = 512

Parts = AsyncGenerator[bytes, None]
Headers = list[tuple[str, str]]
T = TypeVar("T")


@dataclass(frozen=True)
class Stream:
    """An answer that takes long: ``parts`` makes its body on the relay's loop.

    ``on_gone`` is called, in a thread, when the client goes before the body ends; ``on_end`` however it ends, also
    where it never began, and perhaps more than once.
    """

    relay: Relay
    parts: Callable[[Live], Parts]
    on_gone: Callable[[], None] | None = None
    on_end: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[bytes]:
        """The body for a server whose thread writes it."""
        yield b""  # the headers go out now
        parts, complete = self.parts(self.relay.live), False
        try:
            while (part := self.relay.run(_next(parts))) is not None:
                yield part
            complete = True
        finally:
            if not complete:
                self.relay.run(_close(parts))
                if self.on_gone:
                    self.on_gone()

    def close(self) -> None:
        """Called by a server when it is done with the body, as WSGI asks."""
        if self.on_end:
            self.on_end()


@dataclass(frozen=True, slots=True)
class Taken:
    """A client's connection that is the relay's for an answer."""

    #: Non-blocking; the relay closes it before it tells of the end.
    socket: socket.socket
    #: Whether the client may ask for more on the same connection afterwards.
    kept: bool = False
    #: Told of the end: whether the answer is complete and the connection fit for the next.
    end: Callable[[bool], None] = lambda _: None


class Relay:
    """One per process; its loop starts with the first stream, so that it may be made before a process forks."""

    def __init__(self, connect: Callable[[], Live]) -> None:
        self._connect = connect
        self._starting = threading.Lock()
        self._started_in: int | None = None
        self._loop: asyncio.AbstractEventLoop
        self._live: Live
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def live(self) -> Live:
        self._start()
        return self._live

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop and wait for it."""
        self._start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def take(self, taken: Taken, head: bytes, stream: Stream, *, chunked: bool) -> None:
        """Answer on a connection that is the relay's from now on."""
        self._start()
        self._loop.call_soon_threadsafe(self._admit, taken, head, stream, chunked)

    def has_room(self) -> bool:
        return len(self._clients) < _most_streams()

    def _admit(self, taken: Taken, head: bytes, stream: Stream, chunked: bool) -> None:
        task = self._loop.create_task(self._serve(taken, head, stream, chunked=chunked))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, taken: Taken, head: bytes, stream: Stream, *, chunked: bool) -> None:
        fit = False
        try:
            fit = await self._answer(taken, head, stream, chunked=chunked)
        except Exception:  # the boundary of a client: a bug must cost no other client anything
            log.exception("stream.failed")
        finally:
            stream.close()
            taken.end(fit and taken.kept)

    async def _answer(self, taken: Taken, head: bytes, stream: Stream, *, chunked: bool) -> bool:
        """Whether all was said and sent, and the client has said nothing meanwhile."""
        transport, client = await self._loop.connect_accepted_socket(_Client, taken.socket)
        try:
            transport.set_write_buffer_limits(high=MOST_UNSENT)
            client.when_gone = cast(asyncio.Task[None], asyncio.current_task()).cancel
            await _write(client, transport, head, stream.parts(self._live), chunked=chunked)
            transport.close()  # at once: what the client asks for next is not for the relay
        except asyncio.CancelledError:
            if stream.on_gone:
                await asyncio.to_thread(stream.on_gone)
            return False
        else:
            return not client.asks
        finally:
            client.when_gone = None
            if not transport.is_closing():
                transport.abort()  # the client must not take this for the end

    def _start(self) -> None:
        if self._started_in == os.getpid():
            return
        with self._starting:
            if self._started_in != os.getpid():
                _allow_descriptors()
                self._loop, self._clients = asyncio.new_event_loop(), set()
                self._live = self._connect()
                threading.Thread(target=self._loop.run_forever, name="relay", daemon=True).start()
                self._started_in = os.getpid()


class _Client(asyncio.Protocol):
    """One client's connection: what it sends is not answered, that it goes is noticed at once."""

    def __init__(self) -> None:
        self.when_gone: Callable[[], Any] | None = None
        self.taken = asyncio.Event()
        self.taken.set()
        self.is_gone = False
        #: It did not wait for the answer: what it asks for is lost with the connection, and it will ask again.
        self.asks = False

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - nobody reads it
        self.asks = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        self.is_gone = True
        if self.when_gone:
            self.when_gone()

    def pause_writing(self) -> None:
        self.taken.clear()

    def resume_writing(self) -> None:
        self.taken.set()


async def _write(
    client: _Client, transport: asyncio.WriteTransport, head: bytes, parts: Parts, *, chunked: bool
) -> None:
    if client.is_gone:
        raise asyncio.CancelledError
    transport.write(head)
    async with aclosing(parts):
        async for part in parts:
            if part:
                transport.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if not client.taken.is_set():
                await _taken(client)
    if chunked:
        transport.write(b"0\r\n\r\n")
    if transport.get_write_buffer_size():
        transport.set_write_buffer_limits(high=0)
        await _taken(client)


async def _taken(client: _Client) -> None:
    """Wait until a slow reader has taken most of what was written to it, or all where that is the limit.

    Gives it up as gone when it takes nothing.
    """
    try:
        async with asyncio.timeout(STALLED_S):
            await client.taken.wait()
    except TimeoutError:
        raise asyncio.CancelledError from None


async def _next(parts: Parts) -> bytes | None:
    return await anext(parts, None)


async def _close(parts: Any) -> None:
    await parts.aclose()


def over_relay(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI application whose streams are handed to the relay, where the server lets us have the connection."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        head: list[Any] = []

        def note(status: str, headers: Headers, *failure: Any) -> Any:
            head[:] = status, headers
            return start_response(status, headers, *failure)

        parts = app(environ, note)
        if not isinstance(parts, Stream) or (taken := _taken_over(environ)) is None:
            return parts
        chunked = environ["SERVER_PROTOCOL"] != "HTTP/1.0"  # else the end of the connection is that of the body
        taken = replace(taken, kept=taken.kept and chunked)
        parts.relay.take(taken, _head(*head, chunked=chunked, kept=taken.kept), parts, chunked=chunked)
        return ()

    return serve


def _taken_over(environ: Mapping[str, Any]) -> Taken | None:
    """The client's connection. A server that does not lend it is left with one that nobody is on the other end of: to
    the server that is a client that went before it was answered, which every server takes calmly."""
    connection = environ.get("gunicorn.socket")
    if environ["REQUEST_METHOD"] == "HEAD" or environ.get("HTTP_VERSION") == "2":
        return None
    if lend := getattr(connection, "lend", None):
        return cast(Taken | None, lend())
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return None
    ours = connection.dup()
    nobody, other = socket.socketpair()
    other.close()
    os.dup2(nobody.fileno(), connection.fileno(), inheritable=False)
    nobody.close()
    ours.setblocking(False)
    return Taken(ours)


def _head(status: str, headers: Headers, *, chunked: bool, kept: bool) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Date: {formatdate(usegmt=True)}"]
    lines.append(f"Connection: {'keep-alive' if kept else 'close'}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _most_streams() -> int:
    return max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)


def _allow_descriptors() -> None:
    """As many as the system lets us have: each stream is one, and the usual limit is 1 024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if most == resource.RLIM_INFINITY else min(most, 65_536)
    with suppress(ValueError, OSError):
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
