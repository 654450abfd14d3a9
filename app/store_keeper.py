"""Brings the embedded store back when it has stopped by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from runyard.app.supervisor import backoff_s
from runyard.engine.errors import EngineError
from runyard.engine.store.embedded import EmbeddedServer


class StoreKeeper:
    """Not one of the supervisor's children: a store is ready when its data is loaded, and the others wait for it.

    Nothing is lost meanwhile: what was answered is in its file, workers wait and the API answers 503.
    """

    def __init__(self, store: EmbeddedServer, say: Callable[[str], None]) -> None:
        self._store = store
        self._say = say
        self._failures = 0
        self._try_at = 0.0

    def look_after(self) -> None:
        """Start it again if it has stopped; each failure (a full disk, say) makes the next try later."""
        if self._store.is_running() or time.monotonic() < self._try_at:
            return
        self._say("the store has stopped; starting it again")
        try:
            self._store.start()
        except EngineError as problem:
            self._failures += 1
            self._try_at = time.monotonic() + backoff_s(self._failures)
            self._say(f"{problem} Trying again in {backoff_s(self._failures):g} s.")
        else:
            self._failures = 0
            self._say("the store is back")
