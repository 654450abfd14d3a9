"""gunicorn's worker of threads, with threads that stay with a connection as long as its client keeps asking."""

from __future__ import annotations

import select
import threading
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

#: How long a thread waits for the next request of a client that it has just answered, in ms.
LINGER_MS = 500


class WebWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Named on gunicorn's command line.

    gunicorn's own gives a kept connection back to its main thread after each answer, which hands the next request to a
    thread again: two more threads to be woken for each request, with the interpreter's lock between them. Here the
    thread waits for the next request itself. Half of the threads may: the others are there for connections that come.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._may_linger = threading.Semaphore(self.cfg.threads // 2)

    def handle(self, conn: Any) -> Any:
        """Answer a request, and those that follow it soon; what is answered as gunicorn's."""
        kept = super().handle(conn)
        while kept is True and not conn.is_http2 and self.alive and self._asks_again(conn):
            kept = super().handle(conn)
        return kept

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
