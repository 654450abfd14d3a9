"""Deadlines that nearly always are kept: one timer for thousands of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class TimeLimit:
    """A block that is cut off when its time is over, and then raises TimeoutError: as ``asyncio.timeout``, without a
    timer and two coroutines of its own. ``passed`` is for the deadlines to call."""

    __slots__ = ("_before", "_ends", "_task", "_within_s", "expired")

    def __init__(self, ends: Deadlines[TimeLimit], within_s: float) -> None:
        self._ends, self._within_s = ends, within_s
        #: Whether the time was over before the block was.
        self.expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Only what a task does can be cut off.")
        self._task, self._before = task, task.cancelling()
        self._ends.add(self, self._within_s)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._ends.remove(self)
        # Who else has cancelled the task is not to be robbed of that.
        if self.expired and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def passed(self) -> None:
        self.expired = True
        self._task.cancel()


class Deadlines(Generic[T]):
    """Says ``passed`` of whatever was not taken off before its time. One for each process; belongs to its event loop.

    A timer for each would be made and cancelled for every node and every run, and one that waits keeps half a kilobyte
    for it. The one timer is set for the deadline that came first when it was set: it may ring for nothing.
    """

    def __init__(self, passed: Callable[[T], None]) -> None:
        self._passed = passed
        #: On the loop's clock, in seconds.
        self._ends: dict[T, float] = {}
        self._rings_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, what: T, within_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._ends[what] = ends_at = loop.time() + within_s
        if ends_at < self._rings_at:
            self._ring_at(ends_at)

    def remove(self, what: T) -> None:
        self._ends.pop(what, None)

    def _ring_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at, self._timer = at, None
        if at < math.inf:
            self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        over = [what for what, ends_at in self._ends.items() if ends_at <= now]
        for what in over:
            del self._ends[what]
        self._ring_at(min(self._ends.values(), default=math.inf))
        for what in over:
            self._passed(what)
