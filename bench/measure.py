"""What a measurement is, how long it may take, and the loops that all contenders are measured with."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: One unit of work; its result was checked when it comes back.
Work = Callable[[], Awaitable[None]]
#: Progress, for a person who waits.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. Every loop is bounded in time and in count."""

    #: A closed loop goes on for this long.
    seconds: float
    #: Runs before anything is counted.
    warm: int
    #: Runs of an open burst.
    burst: int
    #: Runs measured one after the other on an idle system.
    idle: int
    #: Runs that wait at the same time.
    waiting: int = 200
    #: Runs in hand when a worker is killed.
    killed: int = 40
    #: A measurement that takes longer is given up.
    limit_s: float = 120.0


FULL = Scale(seconds=10.0, warm=100, burst=1000, idle=200)
QUICK = Scale(seconds=2.0, warm=20, burst=100, idle=30, killed=12, limit_s=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One measured number. ``count``: of how many runs it is made."""

    contender: str
    measure: str
    value: float
    count: int
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rate:
    count: int
    seconds: float

    @property
    def per_s(self) -> float:
        return self.count / self.seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was measured, never one between two. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


async def warm_up(work: Work, count: int, *, clients: int) -> None:
    for _ in range(0, count, clients):
        await asyncio.gather(*(work() for _ in range(clients)))


async def closed_loop(work: Work, *, clients: int, seconds: float) -> Rate:
    """``clients`` that each ask again as soon as they were answered. Counts what was answered within the time."""
    began = time.monotonic()
    counts = await asyncio.gather(*(_client(work, began + seconds) for _ in range(clients)))
    return Rate(sum(counts), seconds)


async def _client(work: Work, ends: float) -> int:
    done = 0
    while time.monotonic() < ends:
        await work()
        done += time.monotonic() <= ends
    return done


async def one_by_one(work: Work, count: int) -> list[float]:
    """How long each takes in ms when nothing else is going on."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


async def all_at_once(works: Sequence[Work], *, clients: int) -> Rate:
    """Do all of them, ``clients`` at a time, and say how long that took."""
    todo = iter(works)

    async def client() -> None:
        for work in todo:
            await work()

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Rate(len(works), time.monotonic() - began)
