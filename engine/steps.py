"""What a slice saves on its way, in order and under its lease: what tasks wrote, checkpoints, events, records.

A superstep leaves all four within a moment, so they wait for each other and go in one script: all of it is saved or,
when the lease is somebody else's by then, none. What is left when the run has ended is saved by the script that ends
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from runyard.engine.store import events, records
from runyard.engine.store.client import AsyncStore, translate
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.save import Part, save

#: How long what a task wrote may wait for the checkpoint that mostly follows at once, in seconds.
WRITES_WAIT_S = 0.001
#: How long an event may wait for it: nothing a person who reads along can see.
EVENTS_WAIT_S = 0.003
#: How long both may wait when no node is at work: the checkpoint follows as soon as the loop comes to it, which on a
#: worker with many runs in hand takes longer than the above, and each save that goes out before is one more.
BETWEEN_S = 0.05
#: For so many turns of the loop what has waited long enough waits on for a node at work.
TURNS = 4
#: After how many events and records the oldest above those to keep go. The store drops a hundred entries of a stream
#: at a time, so more often is of no use.
TRIM_EVERY = 100
#: The loop's timers know milliseconds: one that rings so much too soon, in seconds, rings in time.
_RINGS_WITHIN_S = 0.001
_NEVER = float("inf")


class Steps:
    """One for each lease. Belongs to the event loop, but for :meth:`note`, which any thread may call.

    One save of what waits is under way at a time; what comes in the meantime goes with the next, so that a slow store
    makes larger saves and not more of them. A checkpoint waits for nobody.
    """

    __slots__ = (
        "_due_at", "_error", "_events", "_hold_s", "_keep_events", "_keep_records", "_keys", "_late",
        "_listed_at", "_loop", "_nodes_at_work", "_number", "_parts", "_records", "_rings_at", "_run_id", "_saved",
        "_store", "_thread_id", "_timer", "_under_way", "_untrimmed", "_waits_since", "fence",
    )  # fmt: skip

    def __init__(
        self,
        store: AsyncStore,
        keys: Keys,
        run_id: str,
        thread_id: str,
        fence: Fence,
        *,
        keep_events: int,
        keep_records: int,
        goes_on: bool = False,
        hold_s: float = 0.0,
        saved: Callable[[float], None] = lambda _: None,
    ) -> None:
        """About so many events and records of a run stay in the store; 0 records: none are kept. ``goes_on``: the run
        has had a slice before. ``hold_s``: how long all that may wait waits at least. ``saved`` is told how many
        seconds each checkpoint took."""
        self._saved = saved
        self._hold_s = hold_s
        self.fence = fence
        self._store, self._keys, self._run_id, self._thread_id = store, keys, run_id, thread_id
        self._keep_events, self._keep_records = keep_events, keep_records
        self._parts: list[Part] = []
        self._events: list[tuple[str, bytes]] = []
        self._records: list[bytes] = []
        #: How many saves were sent; when the thread's log was seen to name the run, on the loop's clock.
        self._number = 0
        #: Events and records since the oldest went; what earlier slices left is not known.
        self._untrimmed = TRIM_EVERY if goes_on else 0
        self._listed_at: float | None = None
        self._under_way: asyncio.Future[Any] | None = None
        #: By when what waits is to be saved, and since when the first of it waits; both on the loop's clock.
        self._due_at, self._waits_since = _NEVER, 0.0
        #: Rings then or before, and perhaps for nothing: to set one takes longer than to let it ring.
        self._timer: asyncio.Handle | None = None
        self._rings_at = _NEVER
        self._late = False
        self._nodes_at_work = False
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def keeps_records(self) -> bool:
        return self._keep_records > 0

    def note(self, record: bytes) -> None:
        """A record of the ledger; it goes before what is saved next. From any thread."""
        self._records.append(record)

    def tell(self, name: str, data: bytes) -> None:
        """An event, as the JSON it is."""
        self._events.append((name, data))
        self.soon(EVENTS_WAIT_S)

    def wrote(self, part: Part) -> None:
        """What a task wrote. Whether it could be saved is known at the next checkpoint, or at the end."""
        self._parts.append(part)
        self.soon(WRITES_WAIT_S)

    def goes_along(self, part: Part) -> None:
        """What may wait for whatever is saved next."""
        self._parts.append(part)

    async def checkpoint(self, part: Part) -> None:
        """Save a checkpoint, and all that waits. Raises LeaseLost and StoreUnavailable, also of earlier saves."""
        await self.send_checkpoint(part)()

    def send_checkpoint(self, part: Part) -> Callable[[], Awaitable[None]]:
        """As :meth:`checkpoint`, but it is sent when this returns: what is returned waits until it is saved, and
        raises. If nobody calls that, the next save raises."""
        self._parts.append(part)
        return partial(self._wait_for, self.flush(), self._loop.time())

    async def _wait_for(self, future: asyncio.Future[Any] | None, began: float) -> None:
        if future is not None:
            await asyncio.shield(future)
        self._raise_if_failed()
        self._saved(self._loop.time() - began)

    def begin(self) -> None:
        """Let readers of the thread know of the run with what is saved next, should it have nothing to tell itself."""
        self._parts.append(self._of_events([]))

    def node_at_work(self) -> None:
        """The first node of a superstep begins: what is left from before does not wait for its end."""
        self._nodes_at_work = True
        if self._due_at != _NEVER:
            self.soon(EVENTS_WAIT_S)

    def nodes_ended(self) -> None:
        """None is at work any more: a checkpoint, or the end, follows, and what waits goes with it."""
        self._nodes_at_work = False
        if self._due_at != _NEVER:
            self._due_at = self._waits_since + BETWEEN_S

    def soon(self, within_s: float) -> None:
        """Have what waits saved within a time, should nothing else take it along before; with no node at work something
        does, and it may take longer."""
        within_s = max(within_s, self._hold_s, 0.0 if self._nodes_at_work else BETWEEN_S)
        now = self._loop.time()
        if self._due_at == _NEVER:
            self._waits_since = now
        self._due_at = min(self._due_at, now + within_s)
        if self._rings_at > self._due_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = self._due_at
        self._timer = self._loop.call_at(self._due_at, self._rings)

    def flush(self) -> asyncio.Future[Any] | None:
        """Send what waits, ahead of all that the store is asked for after it; its answer, if there was anything."""
        self._stop_waiting()
        parts = self._take()
        if not parts:
            return None
        self._number += 1
        future = self._under_way = self._store.send(save(self.fence, parts, self._number))
        future.add_done_callback(self._answered)
        return future

    async def flushed(self) -> None:
        """Send what waits, and return once it is saved. Raises as :meth:`checkpoint` does."""
        await self._save()

    async def settle(self) -> None:
        """The slice is over, and the run goes on elsewhere. Returns once all is saved: what the slice came to is told
        after it, and could be taken where the store could not take this. Raises as :meth:`checkpoint` does."""
        if (future := self.flush() or self._under_way) is not None:
            await asyncio.shield(future)
        self._raise_if_failed()

    async def rest(self) -> list[Part]:
        """The run is over. What is left to be saved, for the script that ends the run; all else is saved by then.
        Raises as :meth:`checkpoint` does."""
        self._stop_waiting()  # what waits is to go with that script, however long what is under way takes
        if self._under_way is not None:
            await asyncio.shield(self._under_way)
        self._raise_if_failed()
        self._stop_waiting()
        return self._take()

    def _stop_waiting(self) -> None:
        self._late, self._due_at = False, _NEVER

    async def _save(self) -> None:
        if (future := self.flush()) is not None:
            await asyncio.shield(future)  # others' parts are in it: who waits may be cut off, their answer may not
        self._raise_if_failed()

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self._error

    def _answered(self, future: asyncio.Future[Any]) -> None:
        """Called before whoever waits for the same answer goes on."""
        if future is self._under_way:
            self._under_way = None
        reply = None if future.cancelled() else future.result()
        if isinstance(reply, Exception):
            self._error = self._error or translate(reply)
        if self._late:
            self.flush()

    def _rings(self, turns: int = TURNS) -> None:
        self._timer, self._rings_at = None, _NEVER
        if self._due_at == _NEVER:
            return
        if self._loop.time() < self._due_at - _RINGS_WITHIN_S:
            self._set_timer()
        elif self._nodes_at_work and turns:  # perhaps only since the loop is busy: then what follows is about to come
            self._rings_at = self._due_at
            self._timer = self._loop.call_soon(self._rings, turns - 1)
        elif self._under_way is not None:
            self._late, self._due_at = True, _NEVER
        else:
            self.flush()

    def _take(self) -> list[Part]:
        """Everything that waits, as it is to be saved: records before what they are about."""
        parts, self._parts = self._parts, []
        packed, told = self._records[:], self._events
        trims = self._trims(len(packed) + len(told))
        if packed:
            del self._records[: len(packed)]  # other threads append to this very list
            keep = self._keep_records if trims else None
            parts.insert(0, records.part(self._keys, self._run_id, packed, keep=keep))
        if told:
            self._events = []
            parts.append(self._of_events(told, trims=trims))
        return parts

    def _trims(self, fresh: int) -> bool:
        """Whether so many events and records are to push out the oldest."""
        self._untrimmed += fresh
        trims = self._untrimmed >= TRIM_EVERY
        if trims:
            self._untrimmed = 0
        return trims

    def _of_events(self, told: list[tuple[str, bytes]], *, trims: bool = False) -> Part:
        now = self._loop.time()
        listed = self._listed_at is not None and now < self._listed_at + events.LISTED_FOR_S
        self._listed_at = self._listed_at if listed else now
        keep = self._keep_events if trims else None
        return events.part(self._keys, self._run_id, told, keep=keep, thread_id=self._thread_id, listed=listed)
