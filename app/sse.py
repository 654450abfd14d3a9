"""A run's events as server-sent events, and its result as JSON that is waited for.

These are coroutines of the relay's loop: a client costs no thread, however long it listens. When the client goes, its
coroutine is cancelled. The store may go away and come back meanwhile; the client sees nothing of it but silence and
heartbeats.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from runyard.engine import thread_events, wire
from runyard.engine.errors import StoreUnavailable
from runyard.engine.live import Live
from runyard.engine.protocol import PREFIX
from runyard.engine.run import TERMINAL, CancelAction, Run
from runyard.engine.store import events
from runyard.engine.store.events import Event
from runyard.engine.thread_events import ThreadEvent
from runyard.engine.watch import Awaited

#: Clients learn this interval and reconnect when it is exceeded: once begun, it must go on.
HEARTBEAT_S = 5.0
HEARTBEAT = b": heartbeat\n\n"
#: An ended run has nothing more to say: a look this short tells that its result was forgotten.
GLANCE_S = 0.01
#: How long a request for a result waits in its own thread, which is the quickest way, before the relay takes it over.
SOON_S = 1.0

#: Before every event: who loses the stream right after the greeting comes back with this id and misses nothing.
GREETING_ID = "0-1"

#: The events that a client's word for a mode stands for, without their subgraph suffix.
EVENTS_OF: dict[str, tuple[str, ...]] = {
    "messages": ("messages/metadata", "messages/partial", "messages/complete"),
    "messages-tuple": ("messages",),
}

Parts = AsyncGenerator[bytes, None]
#: Finds the result of a run that its last event does not tell; that is None when it was forgotten.
Kept = Callable[[Event | None], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one reader wants to see of a run."""

    after: str = events.START
    #: Names of events; None: all that the run tells.
    names: frozenset[str] | None = None
    ids: bool = False
    #: Whether to begin with the run's ids.
    greeting: bool = True

    def shows(self, event: Event) -> bool:
        if event.name.startswith(PREFIX):  # told to clients of the thread-centric protocol
            return False
        return self.names is None or event.name.partition("|")[0] in self.names


def names_of(modes: Collection[str]) -> frozenset[str] | None:
    """Event names for stream modes; None, which is everything, when no mode is given."""
    return frozenset(name for mode in modes for name in EVENTS_OF.get(mode, (mode,))) or None


def frame(name: str, data: bytes, event_id: str = "") -> bytes:
    last = b"id: %b\n" % event_id.encode() if event_id else b""
    return b"event: %b\ndata: %b\n%b\n" % (name.encode(), data, last)


async def stream(live: Live, run: Run, view: View) -> Parts:
    """The events of a run until it has ended; the status is final before this ends."""
    if view.greeting:
        yield frame("metadata", wire.encode({"run_id": run.run_id, "attempt": 1}), GREETING_ID if view.ids else "")
    heard = time.monotonic()
    async with aclosing(follow(live, run, view.after)) as parts:
        async for some in parts:
            shown = b"".join(_shown(event, view) for event in some)
            if shown or not some or time.monotonic() - heard >= HEARTBEAT_S:
                heard = time.monotonic()
                yield shown or HEARTBEAT


def _shown(event: Event, view: View) -> bytes:
    if event.name == events.END:
        return _last(event, view)
    return frame(event.name, event.data, event.id if view.ids else "") if view.shows(event) else b""


def _last(event: Event, view: View) -> bytes:
    """Nothing for a run that ended well: the stream just closes. A failure is told."""
    ended = wire.decode(event.data)
    result = ended.get("result")
    error = result.get("__error__") if isinstance(result, dict) else None
    if error and ended.get("status") in ("error", "timeout"):
        return frame("error", wire.encode(error), event.id if view.ids else "")
    return b""


async def follow(
    live: Live, run: Run, after: str, *, only_end: bool = False, awaited: Awaited | None = None
) -> AsyncGenerator[Sequence[Event], None]:
    """Events after an id, until the last, or just that; none when a heartbeat is due. Survives the store's absence.

    ``awaited`` is who has listened for the end of the run so far and has missed nothing.
    """
    while True:
        try:
            parts = thread_events.until_over(live, run, after, HEARTBEAT_S, only_end=only_end, awaited=awaited)
            async with aclosing(parts):
                async for some in parts:
                    after = some[-1].id if some else after
                    yield some
            return
        except StoreUnavailable:
            awaited = None  # who has left
            yield ()


async def thread(
    live: Live,
    thread_id: str,
    since: int | None,
    shown: Callable[[ThreadEvent], bytes],
    sees: Callable[[Run], bool],
    hold: Callable[[ThreadEvent], float] = lambda _: 0.0,
) -> Parts:
    """What a thread tells, for as long as the client listens: ``shown`` makes a frame of an event, or nothing.

    ``hold`` says for how many seconds more an event, and what comes with it and after it, is kept back.
    """
    heard = time.monotonic()
    while True:
        try:
            async with aclosing(thread_events.follow(live, thread_id, since, pause_s=HEARTBEAT_S, sees=sees)) as parts:
                async for some in parts:
                    since = some[-1].event.seq if some else since
                    part = b"".join(shown(found) for found in some)
                    await asyncio.sleep(max(map(hold, some), default=0.0))
                    if part or not some or time.monotonic() - heard >= HEARTBEAT_S:
                        heard = time.monotonic()
                        yield part or HEARTBEAT
        except StoreUnavailable:
            yield HEARTBEAT


def soon(awaited: Awaited, run: Run, spare: threading.Semaphore, kept: Kept) -> bytes | None:
    """The run's result as JSON if it comes in a moment and a thread can be spared to wait for it, as :func:`result`."""
    if not spare.acquire(blocking=False):
        return None
    try:
        event = awaited.end(run, within_s=GLANCE_S if run.phase in TERMINAL else SOON_S)
        return (events.result_in(event) or kept(event)) if event is not None else None
    except StoreUnavailable:
        return None
    finally:
        spare.release()


async def result(live: Live, run: Run, kept: Kept, awaited: Awaited | None = None) -> Parts:
    """The run's result as JSON, after a newline at once and every few seconds of waiting.

    ``awaited`` is who has listened for its end so far. ``kept`` is asked for when the events do not tell it: it is
    large, the run was cancelled before it did anything, or ended so long ago that they were forgotten.
    """
    yield b"\n"
    end: Event | None = None
    async with aclosing(follow(live, run, events.START, only_end=True, awaited=awaited)) as parts:
        async for some in parts:
            if not some:
                yield b"\n"
            else:
                end = some[-1]
                break
    yield (events.result_in(end) if end else None) or await asyncio.to_thread(kept, end)


async def shaped(
    live: Live, run: Run, kept: Kept, shape: Callable[[bytes], bytes], awaited: Awaited | None = None
) -> Parts:
    """As :func:`result`, in another shape."""
    async with aclosing(result(live, run, kept, awaited)) as parts:
        async for part in parts:
            yield part if part.isspace() else shape(part)


async def ending(live: Live, run: Run, action: CancelAction) -> Parts:
    """``{}`` once a run that is being cancelled is over; once it is gone, when it is rolled back."""
    after = events.START
    while True:
        async with aclosing(follow(live, run, after)) as parts:
            async for some in parts:
                after = some[-1].id if some else after
                if not some:
                    yield b"\n"
        if action != "rollback" or await live.run(run.run_id) is None:
            break
    yield b"{}"
