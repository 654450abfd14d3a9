"""gunicorn's worker of threads, with threads that stay with a connection as long as its client keeps asking, and
connections that are lent for an answer that takes long."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.workers.gthread import DEFAULT_WORKER_DATA_TIMEOUT, ThreadWorker

from runyard.app.relay import Taken

#: How long a thread waits for the next request of a client that it has just answered, in ms.
LINGER_MS = 500
#: What is answered of a connection that the relay answers on, and of one that is closed already.
_LENT, _CLOSED = object(), object()


class WebWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Named on gunicorn's command line.

    gunicorn's own gives a kept connection back to its main thread after each answer, which hands the next request to a
    thread again: two more threads to be woken for each request, with the interpreter's lock between them. Here the
    thread waits for the next request itself. A quarter of the threads may: half may wait for runs, and the others are
    there for connections that come.

    The thread also says good-bye to a client that is to ask no more: gunicorn's main thread, which accepts all others,
    waits up to two seconds for that client to close its end.

    A connection that the relay answers on needs no thread and does not count as one of ``worker_connections``; a worker
    that stops does not wait for it. It comes back to a thread that waits for the client's next request.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lent: set[Any] = set()
        #: Of a worker that stops: what the relay may still be writing to must stay open.
        self._let_go_of: list[Any] = []
        super().__init__(*args, **kwargs)
        self._may_linger = threading.Semaphore(max(1, self.cfg.threads // 4))
        self._answering = threading.local()

    @property
    def worker_connections(self) -> int:
        """How many connections may be open, as gunicorn counts them: with those that are lent."""
        return self._most_connections + len(self._lent)

    @worker_connections.setter
    def worker_connections(self, most: int) -> None:
        self._most_connections = most

    def handle(self, conn: Any) -> Any:
        """Answer a request, and those that follow it soon; what is answered as gunicorn's, or _LENT."""
        kept = self._answer(conn)
        while kept is True and not conn.is_http2 and self.alive and self._asks_again(conn):
            kept = self._answer(conn)
        if kept:
            return kept
        with suppress(OSError):  # closed already, by gunicorn or the client
            conn.close(graceful=True)
        return _CLOSED

    def handle_request(self, req: Any, conn: Any) -> Any:
        door = self._answering.door = _Door(self, req, conn)
        kept = super().handle_request(req, door)
        door.send_head()
        return kept and not door.is_lent

    def enqueue_req(self, conn: Any) -> None:
        self._hand_to_a_thread(self.handle, conn)

    def handle_exit(self, sig: Any, frame: Any) -> None:
        if self.alive:
            self.method_queue.defer(self._let_go)
        super().handle_exit(sig, frame)

    def lend(self, conn: Any, *, kept: bool) -> Taken:
        """The connection for who answers on it from now on and then gives it back."""
        conn.sock.setblocking(False)
        self._lent.add(conn)
        return Taken(_Borrowed(conn.sock), kept, partial(self._take_back, conn))

    def _take_back(self, conn: Any, fit: bool) -> None:
        """Called by the relay: ``fit`` for the client's next request, or over."""
        try:
            self._lent.remove(conn)
            if fit and self.alive:
                self._hand_to_a_thread(self._handle_next, conn)
            else:
                self.method_queue.defer(self._close, conn)
        except (KeyError, RuntimeError):  # the worker stops: it has let go of the connection, or has no more threads
            conn.sock.close()

    def _handle_next(self, conn: Any) -> Any:
        return self.handle(conn) if self._asks_again(conn) else True

    def _hand_to_a_thread(self, handle: Any, conn: Any) -> None:
        self.tpool.submit(handle, conn).add_done_callback(partial(self._handled, conn))

    def _handled(self, conn: Any, handled: Any) -> None:
        result = None if handled.cancelled() or handled.exception() else handled.result()
        if result is _CLOSED:
            self.method_queue.defer(self._close, conn)
        elif result is not _LENT:
            self.method_queue.defer(self.finish_request, conn, handled)

    def _close(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def _let_go(self) -> None:
        while self._lent:
            self._let_go_of.append(self._lent.pop())
            self.nr_conns -= 1

    def _answer(self, conn: Any) -> Any:
        self._answering.door = None
        kept = super().handle(conn)
        door = self._answering.door
        return _LENT if door is not None and door.is_lent else kept

    def _asks_again(self, conn: Any) -> bool:
        if conn.parser.unreader.buf.getvalue():  # it did not wait for the answer
            return True
        if not self._may_linger.acquire(blocking=False):
            return False
        try:
            waiting = select.poll()
            waiting.register(conn.sock, select.POLLIN)
            return bool(waiting.poll(LINGER_MS))
        finally:
            self._may_linger.release()


class _Borrowed(socket.socket):
    """A socket that is another's: to close it leaves that one open."""

    def __init__(self, of: socket.socket) -> None:
        super().__init__(of.family, of.type, of.proto, fileno=of.fileno())

    def close(self) -> None:
        self.detach()


class _Door:
    """A connection for one request, and its socket as gunicorn and the application see it.

    The application may take it over: what gunicorn then still says of its own answer is said to nobody. The head of an
    answer goes out with the first of its body, where that is known to come: one packet, and the client is woken once.
    """

    def __init__(self, worker: WebWorker, req: Any, conn: Any) -> None:
        self.client, self.server = conn.client, conn.server
        self.is_lent = False
        self._worker, self._req, self._conn = worker, req, conn
        self._head = b""
        self._begun = False

    @property
    def sock(self) -> _Door:
        return self

    def lend(self) -> Taken | None:
        """The connection for another to answer on; None where it cannot be had."""
        conn, worker = self._conn, self._worker
        if isinstance(conn.sock, ssl.SSLSocket):
            return None
        # As gunicorn does after its own answers: the body that nobody has read is no request.
        kept = conn.parser.finish_body(deadline=time.monotonic() + DEFAULT_WORKER_DATA_TIMEOUT)
        kept = kept and worker.alive and worker.cfg.keepalive and not self._req.should_close()
        self.is_lent = True
        return worker.lend(conn, kept=bool(kept))

    def sendall(self, data: bytes) -> None:
        if self.is_lent:
            return
        if not self._begun and b"\r\nContent-Length: " in data:
            self._head = data
        else:
            self._conn.sock.sendall(self._head + data)
            self._head = b""
        self._begun = True

    def send_head(self) -> None:
        """What was kept back until now: nothing followed it."""
        if self._head:
            self._conn.sock.sendall(self._head)
            self._head = b""

    def send(self, data: bytes) -> int:
        """A word before the answer."""
        return len(data) if self.is_lent else self._conn.sock.send(data)

    def __getattr__(self, name: str) -> Any:
        self.send_head()  # somebody sends by other means, a file for instance
        return getattr(self._conn.sock, name)
