"""How many wake-ups a worker acts on: no more than it has time for.

What is in hand shares one core. Whose turn it is is decided when a run is claimed, so whoever is claimed behind a
thousand runs that compute is served with a thousandth of that core. A worker that is late, because its runs wait for it
or for the store, therefore leaves its wake-ups unclaimed: the next one that it acts on is for the tenant whose turn it
is then. Runs that wait for something else make nobody late, however many there are.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: How long it takes a worker that is not late to save a superstep, over what the store needs; in seconds.
LATE_S = 0.03
#: So often as long as the store's own answer may it take where the store is slow: waiting for a disk is done together.
STORE_TIMES = 4
#: So many wake-ups are acted on in one beat: whether they make it late shows a few beats later.
BEAT_S, MOST_A_BEAT = 0.02, 10
#: A late worker acts on one in such a time: what makes it late may be a single node, and may last.
TRICKLE_S = 0.125
#: With fewer in hand nobody waits for many, whatever takes its time.
FEW = 8
#: What was seen so long ago says nothing about now.
FRESH_S = 1.0
#: The weight of a measurement above what is known, and of one below: what counts is how long the slow ones take.
_UP, _DOWN = 0.1, 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known when it is decided. Seconds all of it."""

    #: What it took to save a superstep lately, and how long ago that was seen last.
    save_s: float
    age_s: float
    #: What the store needs to answer when nobody is before one.
    store_s: float
    #: Since the last wake-up was acted on.
    since_s: float
    #: How many runs and branches the process has.
    in_hand: int


def is_late(seen: Seen) -> bool:
    return seen.in_hand >= FEW and seen.age_s < FRESH_S and seen.save_s > LATE_S + STORE_TIMES * seen.store_s


def admitted(seen: Seen) -> int:
    """How many wake-ups may be acted on in this beat."""
    if not is_late(seen):
        return MOST_A_BEAT
    return 1 if seen.since_s >= TRICKLE_S else 0


class Pace:
    """One for each process; belongs to its event loop. First come, first served, and no round trip of its own.

    ``store_s`` tells what the store needs to answer, in seconds; ``in_hand`` how many runs and branches there are.
    """

    def __init__(
        self, store_s: Callable[[], float] = lambda: 0.0, in_hand: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store_s, self._in_hand, self._clock = store_s, in_hand, clock
        self._save_s, self._seen_at, self._acted_at = 0.0, float("-inf"), float("-inf")
        self._beat_ends, self._left, self._is_open = float("-inf"), 0, False
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
            self._save_s += (_UP if took_s > self._save_s else _DOWN) * (took_s - self._save_s)
        self._seen_at = now

    def open(self) -> None:
        """Let all through from now on: a process that was told to stop passes them on."""
        self._is_open = True
        self._let_through()

    async def turn(self) -> None:
        """Return when the wake-up of whoever asks may be acted on."""
        if not self._waiting and self._has_left():
            self._act()
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            self._look_again()
        await mine

    def _has_left(self) -> bool:
        if self._is_open:
            return True
        now = self._clock()
        if now >= self._beat_ends:
            seen = Seen(self._save_s, now - self._seen_at, self._store_s(), now - self._acted_at, self._in_hand())
            self._beat_ends, self._left = now + BEAT_S, admitted(seen)
        return self._left > 0

    def _act(self) -> None:
        self._left -= 1
        self._acted_at = self._clock()

    def _look_again(self) -> None:
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        self._let_through()
        if self._waiting:
            self._look_again()

    def _let_through(self) -> None:
        while self._waiting and self._has_left():
            asked = self._waiting.popleft()
            if not asked.done():  # it may have been cancelled
                asked.set_result(None)
                self._act()
