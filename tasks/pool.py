"""A Celery pool that runs its tasks on one event loop: a waiting run costs no thread, and little memory.

Measured against Celery's threads pool, which blocks a thread for each run in hand: see docs/performance.md.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from celery.app.trace import fast_trace_task, trace_task_ret
from celery.concurrency.base import BasePool, apply_target

from runyard.tasks.coroutine import CameTo, CoroutineTask, Trace
from runyard.tasks.loop import the_loop

log = structlog.get_logger(__name__)

#: Celery's, told that a task begins (process, monotonic time), and what came of it.
Accepted = Callable[[int, float], None]
Ended = Callable[[CameTo], None]


class TaskPool(BasePool):  # type: ignore[misc]
    """What ``-P threads`` means here (see celery.py). ``-c`` bounds how many tasks are in hand at once.

    Tasks that are no coroutines are not ours; they have a thread each.
    """

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_hand = 0
        self._idle = threading.Condition()
        #: Who waits for a place, on the loop.
        self._freed: asyncio.Future[None] | None = None
        #: The loop itself holds on to no task.
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._threads = ThreadPoolExecutor(self.limit, thread_name_prefix="task")

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> None:
        """Start a task; called from whatever thread takes messages."""
        with self._idle:
            self._in_hand += 1
        task = self.app.tasks.get(args[0]) if target in (fast_trace_task, trace_task_ret) else None
        if isinstance(task, CoroutineTask):
            _, task_id, request, *_ = args
            the_loop().soon(self._start, task, task_id, request, callback, accept_callback)
        else:
            self._threads.submit(self._call, target, args, kwargs, callback, accept_callback)

    def on_stop(self) -> None:
        """Wait for what is in hand, as every pool does: a worker that drains ends its slices soon."""
        with self._idle:
            self._idle.wait_for(lambda: not self._in_hand)
        self._threads.shutdown()

    async def place(self) -> None:
        """Return when another task may be in hand; for the one that takes messages on the loop."""
        while True:
            with self._idle:
                if self._in_hand < self.limit:
                    return
                freed = self._freed = asyncio.get_running_loop().create_future()
            await freed

    def _start(
        self, task: CoroutineTask, task_id: str, request: dict[str, Any], ended: Ended, accepted: Accepted
    ) -> None:
        self._tasks.add(
            asyncio.get_running_loop().create_task(self._do(Trace(task, task_id, request), ended, accepted))
        )

    async def _do(self, trace: Trace, ended: Ended, accepted: Accepted) -> None:
        """One task, from what Celery does before it to what it does after."""
        try:
            accepted(os.getpid(), time.monotonic())
            del accepted
            trace.begin()
            try:
                value = await trace.work()
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever a task raises, Celery is told
                came_to = trace.failed(error)
            else:
                came_to = trace.succeeded(value)
            ended(came_to)
        except Exception:  # Celery's own failure, which no other task is to suffer from
            log.exception("task.not_traced")
        finally:
            self._tasks.discard(asyncio.current_task())
            self._ended()

    def _call(self, target: Any, args: Any, kwargs: Any, callback: Any, accept_callback: Any) -> None:
        try:
            apply_target(target, args, kwargs, callback, accept_callback)
        except BaseException:  # the tracer handles what a task raises: this is Celery's own failure
            log.exception("task.not_traced")
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._idle:
            self._in_hand -= 1
            self._idle.notify_all()
            freed, self._freed = self._freed, None
        if freed is not None:
            the_loop().soon(_let_in, freed)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "in-hand": self._in_hand}


def _let_in(freed: asyncio.Future[None]) -> None:
    if not freed.done():  # it may have been cancelled
        freed.set_result(None)
