"""A worker's sign of life: not that the process exists, but what it has in hand and when it last took work."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from runyard.engine.errors import StoreUnavailable
from runyard.engine.store import recovery as calls
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys

log = structlog.get_logger(__name__)


def rss_mb() -> int:
    """Memory that this process uses, in MB; 0 where that cannot be told (there is no /proc)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


class Presence:
    """Beats once a second on a thread of its own. ``took`` is told of every wake-up that was claimed."""

    def __init__(self, store: SyncStore, keys: Keys, worker_id: str, queues: str, in_hand: Callable[[], int],
        *, memory_mb: int = 0, capacity: int = 0, holds: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        """``memory_mb``: what this process may use and still take work; 0: any amount. ``capacity``: how many runs it
        can have in hand at once; 0: not known. ``holds``: how many wake-ups it has that it has not acted on."""
        self._store, self._keys, self._worker_id, self._queues, self._in_hand = store, keys, worker_id, queues, in_hand
        self._memory_mb, self._capacity, self._holds = memory_mb, capacity, holds
        #: Whether this process uses too much memory to take another run.
        self.is_full = False
        #: How many beats it has been full with nothing in hand: nothing will make it smaller.
        self.idle_and_full = 0
        #: How long the store took to answer, in seconds, in the last minute.
        self._answers: deque[float] = deque(maxlen=60)
        self._newest: dict[str, int] = {}
        self._last_took_ms = 0
        self._started_ms = time.time_ns() // 1_000_000
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    @property
    def store_s(self) -> float:
        """What the store needs to answer when nobody is before one: the least of the last minute, in seconds."""
        return min(self._answers, default=0.0)

    def start(self) -> None:
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)
        with suppress(StoreUnavailable):  # then it is taken off the list for its silence
            self._store.do_all(calls.leave(self._keys, self._worker_id))

    def took(self, queue: str, woken_ms: int, now_ms: int) -> None:
        """A wake-up of ``queue``, sent at ``woken_ms``, was claimed at ``now_ms`` (the store's clock)."""
        self._newest[queue] = max(woken_ms, self._newest.get(queue, 0))
        self._last_took_ms = now_ms

    def beat(self) -> None:
        used_mb = rss_mb()
        self._weigh(used_mb)
        facts: dict[str, str | int] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": self._queues,
            "in_hand": self._in_hand(),
            "capacity": self._capacity,
            "took_at": self._last_took_ms,
            "started_at": self._started_ms,
            "memory_mb": used_mb,
            "takes_work": 0 if self.is_full else 1,
        }
        newest, self._newest = self._newest, {}
        began = time.monotonic()
        now_ms = self._store.do(calls.clock())  # the store's: workers' clocks differ, and one must not outlive another
        self._answers.append(time.monotonic() - began)
        holds = self._queues.split(",") if self._holds() else ()
        self._store.do_all(calls.beat(self._keys, self._worker_id, facts, newest, now_ms, holds=holds))

    def _weigh(self, used_mb: int) -> None:
        full = bool(self._memory_mb) and used_mb > self._memory_mb
        if full != self.is_full:
            self.is_full = full
            say = log.warning if full else log.info
            say("worker.full" if full else "worker.has_room", used_mb=used_mb, limit_mb=self._memory_mb)
        self.idle_and_full = self.idle_and_full + 1 if full and not self._in_hand() else 0

    def _run(self) -> None:
        while not self._stopping.wait(1.0):
            try:
                self.beat()
            except StoreUnavailable:
                continue  # the lease keeper says so already
            except Exception:  # a worker that works must not drop off the list for one failed beat
                log.exception("presence.beat_failed")
