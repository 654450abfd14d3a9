"""How many wake-ups a worker acts on: no more than it has time for.

What is in hand shares one core. Whose turn it is is decided when a run is claimed, so whoever is claimed behind a
thousand runs that compute is served with a thousandth of that core. A worker therefore leaves a wake-up unclaimed while
enough runs are *ready*: in hand, with no node at work, so that they want this loop or the store. The next wake-up that
it acts on is for the tenant whose turn it is then. Runs whose nodes wait for something else are not ready, and may be
as many as memory allows; should their nodes compute after all, in threads or in many small steps, the worker is late.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: So many runs keep the core and the store's connection busy; more would only wait for each other.
MOST_READY = 32
#: A worker is late that needs so much longer to save a superstep than the store does; in seconds.
LATE_S = 0.1
#: So often as long as the store's own answer may it take where the store is slow: waiting for a disk is done together.
STORE_TIMES = 4
#: A late worker acts on one in such a time: what makes it late may be a single node, and may last.
TRICKLE_S = 0.125
#: With fewer in hand nobody waits for many, whatever takes its time.
FEW = 8
#: What was seen so long ago says nothing about now.
FRESH_S = 1.0
#: The weight of a measurement: what is known is about the mean of the last ten.
_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known when it is decided. Seconds, where it is no count."""

    #: What it took to save a superstep lately, and how long ago that was seen last.
    save_s: float
    age_s: float
    #: What the store needs to answer when nobody is before one.
    store_s: float
    #: Since the last wake-up was acted on.
    since_s: float
    #: How many wake-ups are being acted on, and how many of these have a node at work.
    in_hand: int
    at_work: int

    @property
    def ready(self) -> int:
        return self.in_hand - self.at_work


def is_late(seen: Seen) -> bool:
    return seen.in_hand >= FEW and seen.age_s < FRESH_S and seen.save_s > LATE_S + STORE_TIMES * seen.store_s


def may_act(seen: Seen) -> bool:
    """Whether another wake-up may be acted on now."""
    if seen.ready >= MOST_READY:
        return False
    return not is_late(seen) or seen.since_s >= TRICKLE_S


class Pace:
    """One for each process; belongs to its event loop. First come, first served, and no round trip of its own.

    ``store_s`` tells what the store needs to answer, in seconds.
    """

    def __init__(self, store_s: Callable[[], float] = lambda: 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._store_s, self._clock = store_s, clock
        self._save_s, self._seen_at, self._acted_at = 0.0, float("-inf"), float("-inf")
        self._is_open = False
        self._in_hand = self._at_work = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wake-ups wait."""
        return len(self._waiting)

    def saved(self, took_s: float) -> None:
        """A superstep was saved, so long after that was asked for."""
        now = self._clock()
        if now - self._seen_at > FRESH_S:
            self._save_s = took_s
        else:
            self._save_s += _WEIGHT * (took_s - self._save_s)
        self._seen_at = now

    def open(self) -> None:
        """Let all through from now on: a process that was told to stop passes them on."""
        self._is_open = True
        self._let_through()

    async def turn(self) -> None:
        """Return when the wake-up of whoever asks may be acted on; :meth:`over` is to be called when that is done."""
        if not self._waiting and self._may_act():
            self._act()
        else:
            await self._its_turn()

    def over(self) -> None:
        self._in_hand -= 1
        self._let_through()

    def node_at_work(self) -> None:
        """A run or branch, none of whose nodes was at work, has one that is."""
        self._at_work += 1
        self._let_through()

    def nodes_ended(self) -> None:
        """It has none any more."""
        self._at_work -= 1

    async def _its_turn(self) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            self._look_again()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # it was let through, and does not come
                self.over()
            raise

    def _may_act(self) -> bool:
        now = self._clock()
        seen = Seen(
            self._save_s, now - self._seen_at, self._store_s(), now - self._acted_at, self._in_hand, self._at_work
        )
        return self._is_open or may_act(seen)

    def _act(self) -> None:
        self._in_hand += 1
        self._acted_at = self._clock()

    def _look_again(self) -> None:
        """While some wait: who is late becomes less so without anything that happens here."""
        asyncio.get_running_loop().call_later(TRICKLE_S, self._beat)

    def _beat(self) -> None:
        self._let_through()
        if self._waiting:
            self._look_again()

    def _let_through(self) -> None:
        while self._waiting and self._may_act():
            asked = self._waiting.popleft()
            if not asked.done():  # it may have been cancelled
                asked.set_result(None)
                self._act()
