"""A Celery pool that runs its tasks on one event loop: a waiting run costs no thread.

Celery's tracer, with its signals, events and whoever hooks into it (Sentry), is plain code that calls the task and
wants its result at once. Each task therefore runs in a greenlet on the loop's thread: where the task waits for a
coroutine (:func:`wait_for`) the greenlet is left, and it is taken up again when the coroutine has ended.

Measured against Celery's threads pool, which blocks a thread for each run in hand: see docs/performance.md.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import greenlet
import structlog
import uvloop
from celery.concurrency.base import BasePool, apply_target

log = structlog.get_logger(__name__)
T = TypeVar("T")


def wait_for(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """What ``work`` comes to, done on ``loop``.

    In a task of this pool other tasks go on meanwhile; in a prefork child, or any other thread, the thread waits.
    """
    job = greenlet.getcurrent()
    if isinstance(job, _Job):
        return job.parent.switch(work)  # type: ignore[no-any-return]
    return asyncio.run_coroutine_threadsafe(work, loop).result()


class EventLoop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout_s)


class TaskPool(BasePool):  # type: ignore[misc]
    """What ``-P threads`` means here (see celery.py). ``-c`` bounds how many tasks are in hand at once."""

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_hand = 0
        self._idle = threading.Condition()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> None:
        """Start a task on the loop; called from the consumer's thread."""
        with self._idle:
            self._in_hand += 1
        the_loop().loop.call_soon_threadsafe(self._start, target, args, kwargs, callback, accept_callback)

    def on_stop(self) -> None:
        """Wait for what is in hand, as every pool does: a worker that drains ends its slices soon."""
        with self._idle:
            self._idle.wait_for(lambda: not self._in_hand)

    def _start(self, *what: Any) -> None:
        _Job(what, self._ended).go()

    def _ended(self) -> None:
        with self._idle:
            self._in_hand -= 1
            self._idle.notify_all()

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "in-hand": self._in_hand}


class _Job(greenlet.greenlet):
    """One task under Celery's tracer. It lives on the loop's thread."""

    def __init__(self, what: tuple[Any, ...], ended: Callable[[], None]) -> None:
        super().__init__()
        self._what, self._ended = what, ended
        self._context = contextvars.copy_context()
        self.gr_context = self._context

    def run(self) -> None:  # type: ignore[override]  # greenlet's way to say what it does
        target, args, kwargs, callback, accept_callback = self._what
        try:
            apply_target(target, args, kwargs, callback, accept_callback, pid=os.getpid(), monotonic=time.monotonic)
        except BaseException:  # the tracer handles what a task raises: this is Celery's own failure
            log.exception("task.not_traced")

    def go(self, step: Callable[[], Any] | None = None) -> None:
        """Run until the task waits for something, or has ended."""
        work = (step or self.switch)()
        if self.dead:
            self._ended()
            return
        waiting = asyncio.get_running_loop().create_task(work, context=self._context)
        waiting.add_done_callback(self._go_on)

    def _go_on(self, done: asyncio.Task[Any]) -> None:
        if done.cancelled():
            self.go(lambda: self.throw(asyncio.CancelledError()))
        elif error := done.exception():
            self.go(lambda: self.throw(error))
        else:
            self.go(lambda: self.switch(done.result()))


_loop: tuple[int, EventLoop] | None = None
_making = threading.Lock()


def the_loop() -> EventLoop:
    """This process's event loop, made on first use: a child of a fork makes its own."""
    global _loop  # noqa: PLW0603 - one for each process is the point
    with _making:
        if _loop is None or _loop[0] != os.getpid():
            _loop = (os.getpid(), EventLoop())
        return _loop[1]
