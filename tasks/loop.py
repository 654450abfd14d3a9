"""The event loop of a process, on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class EventLoop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def soon(self, do: Callable[..., None], *args: Any) -> None:
        """Call something on the loop, from any thread: from its own without waking it."""
        if threading.get_ident() == self._thread.ident:
            self.loop.call_soon(do, *args)
        else:
            self.loop.call_soon_threadsafe(do, *args)

    def stop(self, timeout_s: float = 5.0) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout_s)


_loop: tuple[int, EventLoop] | None = None
_making = threading.Lock()


def the_loop() -> EventLoop:
    """This process's event loop, made on first use: a child of a fork makes its own."""
    global _loop  # noqa: PLW0603 - one for each process is the point
    with _making:
        if _loop is None or _loop[0] != os.getpid():
            _loop = (os.getpid(), EventLoop())
        return _loop[1]


def wait_for(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """What ``work`` comes to, done on ``loop``, which runs in another thread than this one."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()
