"""The shares of limits that one worker process holds or waits for. One per process, on its event loop.

Shares live like leases: renewed in the same batch, so a worker that dies gives back what it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from runyard.engine.background import Background
from runyard.engine.errors import StoreUnavailable
from runyard.engine.limits import Limit
from runyard.engine.run import Wake
from runyard.engine.store import limits as calls
from runyard.engine.store.client import AsyncStore, Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import acarry_out

log = structlog.get_logger(__name__)

SendWakes = Callable[[Sequence[Wake]], None]
#: How long a waiter goes without asking, in seconds: being told is quicker, and may be lost.
ASK_EVERY_S = 1.0
#: A parked run is looked for in the queue that much longer than it means to wait: its worker may be busy. In ms.
_PATIENCE_MS = 600_000


class Shares:
    def __init__(
        self, store: AsyncStore, keys: Keys, background: Background, *,
        lease_ms: int, wake: SendWakes,
    ) -> None:  # fmt: skip
        self.store, self.keys, self.lease_ms = store, keys, lease_ms
        self.background, self._wake = background, wake
        self._holding: dict[str, str] = {}
        self._waiting: dict[str, tuple[str, asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._remembered: set[str] = set()

    def ticket(self, limit: Limit, waiter: str, token: str) -> Ticket:
        """A place to ask for a share from: of this waiter, under this lease."""
        return Ticket(self, limit, waiter, f"{waiter}#{token}")

    async def take(self, limit: Limit, waiter: str, holder: str, *, believed_ms: int, wake: str = "") -> calls.Taken:
        taken = calls.take(self.keys, limit, waiter, holder, lease_ms=self.lease_ms, believed_ms=believed_ms, wake=wake)
        if limit.name not in self._remembered:
            self._remembered.add(limit.name)
            self.background.add(self._remember(limit.name))
        got = await self.store.do(taken)
        if got.has_share:
            with self._lock:
                self._holding[holder] = limit.name
        if got.others:
            self.background.add(self._hand_on(limit.name, got.others))
        return got

    async def give(self, name: str, *, holder: str = "", waiter: str = "", blocked_ms: int = 0) -> None:
        """Give back, with what is sent next: at once where somebody here waits for it, or nobody is to begin for a
        while. When the store is away the share ends with its lease."""
        with self._lock:
            self._holding.pop(holder, None)
        with contextlib.suppress(StoreUnavailable):
            call = calls.give(self.keys, name, holder=holder, waiter=waiter, blocked_ms=blocked_ms)
            in_haste = blocked_ms or any(wanted == name for wanted, _ in self._waiting.values())
            given = await (self.store.do(call) if in_haste else self.store.ride(call))
            await self._hand_on(name, given)

    async def _hand_on(self, name: str, given: calls.Given) -> None:
        for waiter, _ in given:
            self._notify(waiter)
        with contextlib.suppress(StoreUnavailable):
            if wakes := await acarry_out(calls.hand_on(self.keys, name, given), self.store):
                await asyncio.get_running_loop().run_in_executor(None, self._wake, wakes)

    async def _remember(self, name: str) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self.store.do(calls.remember(self.keys, name))

    # --- from the lease keeper's threads

    def renewals(self) -> list[Call[Any]]:
        """What to renew with the leases, in their batch."""
        held: defaultdict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        with self._lock:
            for holder, name in self._holding.items():
                held[name][0].append(holder)
            for waiter, (name, _) in self._waiting.items():
                held[name][1].append(waiter)
        return [calls.renew(self.keys, name, *both, lease_ms=self.lease_ms) for name, both in held.items()]

    def told(self, waiter: str) -> None:
        """Somebody gave this waiter a share."""
        if self._loop is not None and waiter in self._waiting:
            self._loop.call_soon_threadsafe(self._notify, waiter)

    # --- those that wait in this process

    def await_share(self, limit: Limit, waiter: str) -> asyncio.Event:
        event, self._loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            self._waiting[waiter] = (limit.name, event)
        return event

    def stop_waiting(self, waiter: str) -> None:
        with self._lock:
            self._waiting.pop(waiter, None)

    def _notify(self, waiter: str) -> None:
        if waiting := self._waiting.get(waiter):
            waiting[1].set()


class Ticket:
    """One task's claim to a share. Whoever has one must :meth:`leave` it, park it, or give its share back."""

    def __init__(self, shares: Shares, limit: Limit, waiter: str, holder: str) -> None:
        self._shares, self.limit, self._waiter, self._holder = shares, limit, waiter, holder
        #: Seconds until its turn as far as that can be told, else 0; how many are before it.
        self.wait_s, self.before = 0.0, 0
        self._told: asyncio.Event | None = None

    async def take(self) -> bool:
        """Take a share, or keep a place in the queue from this process."""
        if self._told is not None:
            self._told.clear()
        # Without a sign of life from the keeper a place is kept for as long as a lease, and a little to ask again in.
        return await self._ask(believed_ms=self._shares.lease_ms + round(ASK_EVERY_S * 1000))

    async def park(self, member: str) -> tuple[bool, float]:
        """Keep the place without a process: ``member`` is woken when it is its turn. Answers whether there is a share
        by now, else how long to wait at most, in seconds."""
        # The longer the queue, the less often each of it looks for itself: being woken does not depend on it.
        most_s = max(30.0 + self.before, self.wait_s)
        if await self._ask(believed_ms=round(most_s * 1000) + _PATIENCE_MS, wake=member):
            return True, 0.0
        self._shares.stop_waiting(self._waiter)
        return False, most_s

    async def wait(self, most_s: float) -> None:
        """Until somebody gives it a share, its turn may have come, or so many seconds have passed."""
        if self._told is None:
            self._told = self._shares.await_share(self.limit, self._waiter)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(most_s, self.wait_s) if self.wait_s else most_s):
                await self._told.wait()

    def leave(self) -> None:
        """Leave the queue, or give back what came in the meantime."""
        self._shares.stop_waiting(self._waiter)
        self._shares.background.add(self._shares.give(self.limit.name, holder=self._holder, waiter=self._waiter))

    def give_back(self, *, blocked_s: float = 0.0) -> None:
        """Give the share back; with ``blocked_s`` nobody in the fleet begins for so long."""
        work = self._shares.give(self.limit.name, holder=self._holder, blocked_ms=round(blocked_s * 1000))
        self._shares.background.add(work)

    async def _ask(self, *, believed_ms: int, wake: str = "") -> bool:
        got = await self._shares.take(self.limit, self._waiter, self._holder, believed_ms=believed_ms, wake=wake)
        self.wait_s, self.before = got.wait_ms / 1000, got.before
        if got.has_share:
            self._shares.stop_waiting(self._waiter)
        return got.has_share
