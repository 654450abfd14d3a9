"""Wake-ups leave after the answer: a client does not wait for the broker, which may be slow or away.

Nothing depends on it. A wake-up that is lost here, because the process dies or the outbox is full, is one of those that
recovery sends again.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections.abc import Callable, Sequence

import structlog

from runyard.engine.run import Wake

log = structlog.get_logger(__name__)

#: Filled only while the broker is away; then recovery finds the rest.
MOST_WAITING = 10_000
#: How long an ending process goes on sending.
LEAVE_S = 2.0

Send = Callable[[Sequence[Wake]], None]


class Outbox:
    """Hands wake-ups to ``send`` on a thread of its own, in order. Its thread starts with the first one, so that an
    outbox may be made before a process forks."""

    def __init__(self, send: Send, *, most_waiting: int = MOST_WAITING) -> None:
        self._send = send
        self._waiting: queue.Queue[Sequence[Wake]] = queue.Queue(most_waiting)
        self._started_in: int | None = None
        self._starting = threading.Lock()

    def __call__(self, wakes: Sequence[Wake]) -> None:
        """Take wake-ups to be sent soon. Never blocks."""
        if not wakes:
            return
        self._start()
        try:
            self._waiting.put_nowait(wakes)
        except queue.Full:
            log.warning("outbox.full", dropped=len(wakes), detail="Recovery will start these runs.")

    def flush(self, timeout_s: float = LEAVE_S) -> bool:
        """Wait until everything was sent, or the time is up; answers whether it was."""
        with self._waiting.all_tasks_done:
            return self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, timeout_s)

    def _start(self) -> None:
        if self._started_in == os.getpid():
            return
        with self._starting:
            if self._started_in != os.getpid():
                threading.Thread(target=self._run, name="outbox", daemon=True).start()
                atexit.register(self.flush)
                self._started_in = os.getpid()

    def _run(self) -> None:
        while True:
            wakes = self._waiting.get()
            try:
                self._send(wakes)
            except Exception:  # the thread must live on; the runs are recorded, and recovery finds them
                log.exception("outbox.not_sent", wakes=len(wakes))
            finally:
                self._waiting.task_done()
