"""An event loop of its own for coroutines of others' code that threads have to wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Started when first needed, in the process that needs it: what a coroutine opened must outlive the call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
        """Wait for a coroutine. Raises what it raises; TimeoutError, and it is cancelled, when it takes too long."""
        future = asyncio.run_coroutine_threadsafe(work, self.running())
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def stop(self) -> None:
        with self._changing:
            if self._loop and self._thread:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
            self._loop = self._thread = None

    def running(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs."""
        with self._changing:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop
