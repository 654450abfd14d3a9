"""Waiting for what runs tell on an event loop, for very many readers at once.

As :class:`~runyard.engine.watch.Watch`, on whose one subscription it listens, but a reader costs a coroutine and no
thread. Readers that want the same at the same moment share one read of the store, so a run that a thousand clients
follow is read once for each thing it tells.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from runyard.engine import metrics
from runyard.engine.run import Run
from runyard.engine.store import events, runs
from runyard.engine.store.client import AsyncStore, Call
from runyard.engine.store.events import START, Begun, Event
from runyard.engine.store.keys import Keys
from runyard.engine.watch import LOOK_S, SETTLED_S, Awaited, Watch


class _Entry(Protocol):
    @property
    def id(self) -> str: ...


E = TypeVar("E", bound=_Entry)
T = TypeVar("T")


class Live:
    """One per event loop, whose coroutines alone may use it."""

    def __init__(self, store: AsyncStore, keys: Keys, watch: Watch) -> None:
        self.store, self.keys, self._watch = store, keys, watch
        self._reads, self._ringing = _SharedReads(store), _Ringing()

    def events(
        self,
        run_id: str,
        after: str = START,
        *,
        pause_s: float,
        only_end: bool = False,
        awaited: Awaited | None = None,
    ) -> AsyncGenerator[Sequence[Event], None]:
        """A run's events after an id as they come, some at a time, for ever; none of them after ``pause_s`` of silence.

        With ``only_end`` just the last one, ``end``; ``awaited`` is who has listened for it so far and missed nothing:
        then the store is asked only after a silence. The caller leaves when it has seen that. Raises StoreUnavailable.
        """
        channel = self.keys.of_run(run_id).events(run_id)
        listens = self._listening_for_end(run_id, awaited) if only_end else self._listening(channel)

        def look(after: str) -> Call[list[Event]]:
            return events.end(self.keys, run_id) if only_end else events.read(self.keys, run_id, after)

        return self._follow(listens, (channel, only_end), look, after, pause_s, settled=awaited is not None)

    def runs(self, thread_id: str, after: str = START, *, pause_s: float) -> AsyncGenerator[Sequence[Begun], None]:
        """A thread's runs as they begin to tell something; as :meth:`events`."""
        channel = self.keys.of_thread(thread_id).thread_log(thread_id)

        def look(after: str) -> Call[list[Begun]]:
            return events.log(self.keys, thread_id, after)

        return self._follow(self._listening(channel), channel, look, after, pause_s)

    async def run(self, run_id: str) -> Run | None:
        """A run as it stands now; None when it was forgotten."""
        return await self.store.do(runs.get(self.keys, run_id))

    async def is_over(self, run_id: str) -> bool:
        """Whether a run has ended or was forgotten."""
        return await self.store.do(runs.is_over(self.keys, run_id))

    async def _follow(
        self,
        listens: AbstractAsyncContextManager[_Bell],
        what: Any,
        read: Callable[[str], Call[list[E]]],
        after: str,
        pause_s: float,
        *,
        settled: bool = False,
    ) -> AsyncGenerator[Sequence[E], None]:
        """``what`` is read, for readers to share it; ``settled``: somebody has listened so far."""
        async with listens as bell:
            patience_s = min(SETTLED_S, pause_s)
            live = False  # what was told before somebody came lags behind nobody
            if settled:
                await _rings(bell.rung, min(LOOK_S, pause_s))
                patience_s = pause_s
            while True:
                bell.rung.clear()
                if found := await self._look(bell, (what, after), read(after)):
                    after = found[-1].id
                    if live:
                        at_ms = int(after.partition("-")[0])
                        metrics.observe("runyard_stream_lag_seconds", time.time() - at_ms / 1000)
                    yield found
                elif not await _rings(bell.rung, patience_s) and patience_s == pause_s:
                    yield ()
                else:
                    patience_s = pause_s
                live = True

    async def _look(self, bell: _Bell, key: Any, call: Call[list[E]]) -> Sequence[E]:
        if bell.told is None:
            return await self._reads.do(key, call)
        told, bell.told = [cast(E, bell.told)], None
        return told

    @asynccontextmanager
    async def _listening(self, channel: str) -> AsyncIterator[_Bell]:
        # To subscribe is a word to the store from a thread's connection, which may have to be made again.
        bell = _Bell(self._ringing)
        await asyncio.to_thread(self._watch.enter, channel, bell)
        try:
            yield bell
        finally:
            await asyncio.shield(asyncio.to_thread(self._watch.leave, channel, bell))

    @asynccontextmanager
    async def _listening_for_end(self, run_id: str, awaited: Awaited | None) -> AsyncIterator[_Bell]:
        bell = _Bell(self._ringing)
        asks = not self._watch.hears_end(run_id)  # as above
        if awaited is not None:
            awaited.ring(bell)
        elif asks:
            await asyncio.to_thread(self._watch.enter_end, run_id, bell)
        else:
            self._watch.enter_end(run_id, bell)
        leave = partial(self._watch.leave_end, run_id, bell) if awaited is None else awaited.leave
        try:
            yield bell
        finally:
            if asks:
                await asyncio.shield(asyncio.to_thread(leave))
            else:
                leave()


class _Ringing:
    """Bells that were rung by the thread that hears the store, heard on the loop: it is woken once for many."""

    def __init__(self) -> None:
        self._rung: deque[asyncio.Event] = deque()
        self._planned = False

    def ring(self, loop: asyncio.AbstractEventLoop, bell: asyncio.Event) -> None:
        self._rung.append(bell)
        if not self._planned and not loop.is_closed():
            self._planned = True
            loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        self._planned = False  # first: what is rung from now on wakes the loop again
        while self._rung:
            self._rung.popleft().set()


class _Bell:
    """Rung by the thread that hears the store, heard on the loop."""

    def __init__(self, ringing: _Ringing) -> None:
        self._ringing, self._loop = ringing, asyncio.get_running_loop()
        self.rung = asyncio.Event()
        self.told: Event | None = None

    def set(self) -> None:
        self._ringing.ring(self._loop, self.rung)


async def _rings(bell: asyncio.Event, within_s: float) -> bool:
    if not within_s:
        return bell.is_set()
    try:
        async with asyncio.timeout(within_s):
            await bell.wait()
    except TimeoutError:
        return False
    return True


class _SharedReads:
    """Reads of the store that many want: who asks for the same before it is sent gets the same answer.

    Nobody joins a read that is under way already: what was told since would be missing from it.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._next: dict[Any, tuple[Call[Any], list[asyncio.Future[Any]]]] = {}
        self._sent: set[asyncio.Task[None]] = set()

    async def do(self, key: Any, call: Call[T]) -> T:
        loop = asyncio.get_running_loop()
        if not self._next:
            loop.call_soon(self._send)
        answer: asyncio.Future[T] = loop.create_future()
        self._next.setdefault(key, (call, []))[1].append(answer)
        return await answer

    def _send(self) -> None:
        wanted, self._next = self._next, {}
        for call, waiting in wanted.values():
            task = asyncio.get_running_loop().create_task(self._read(call, waiting))
            self._sent.add(task)
            task.add_done_callback(self._sent.discard)

    async def _read(self, call: Call[Any], waiting: list[asyncio.Future[Any]]) -> None:
        try:
            found = await self._store.do(call)
        except Exception as error:  # noqa: BLE001 - raised to each who waits
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for answer in waiting:
            if not answer.done():
                answer.set_result(found)
