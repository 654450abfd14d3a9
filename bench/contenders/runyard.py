"""Runyard: web, workers and store as separate processes, every superstep saved, asked over HTTP as a client asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from bench import measures as m, workloads
from bench.contenders.kill import seconds_until_back
from bench.doors import Door
from bench.measure import Number, Rate, Scale, Tell, all_at_once, closed_loop, one_by_one, percentile, warm_up
from bench.plan import Plan
from bench.stack import Stack
from runyard.engine.store.embedded import AppendFsync

T = TypeVar("T")
#: Worker processes: one for each core, since each goes on computing while the store saves.
WORKERS = 2
CLIENTS = 32
#: More than a client of a burst would open: what is measured is the server's answer, not its queue for connections.
BURST_CLIENTS = 16
FANOUT_CLIENTS = 4


class Runyard:
    def __init__(self, contender: m.Contender, *, appendfsync: AppendFsync, brief: bool = False) -> None:
        """``brief``: throughput and latency only."""
        self.contender, self._appendfsync, self._brief = contender, appendfsync, brief

    def measure(self, plan: Plan, scale: Scale, tell: Tell) -> Iterator[Number]:
        if plan.wants_any(self.contender, m.CHAIN, m.BURST, m.IDLE_P50, m.IDLE_P99, m.ACCEPT_P50, m.ACCEPT_P99,
                          m.ACCEPT_BURST_P99, m.FANOUT):  # fmt: skip
            with self._open(WORKERS, scale, tell) as opened:
                yield from self._at_work(plan, scale, tell, opened)
        if plan.wants(self.contender, m.WAITS) and not self._brief:
            with self._open(1, scale, tell) as opened:
                yield from self._waits(scale, tell, opened)
        if plan.wants_any(self.contender, m.RECOVERY, m.LOST) and not self._brief:
            with self._open(2, scale, tell) as opened:
                yield from self._kill(scale, tell, opened)

    @contextmanager
    def _open(self, workers: int, scale: Scale, tell: Tell) -> Iterator[_Opened]:
        tell(f"starting web and {workers} worker{'s' * (workers > 1)}")
        with Stack(workers=workers, appendfsync=self._appendfsync) as stack, asyncio.Runner() as runner:
            opened = _Opened(stack, Door(stack.port), runner, scale.limit_s)
            opened.run(warm_up(opened.waiting("chain10a"), scale.warm, clients=8))
            try:
                yield opened
            finally:
                runner.run(opened.door.close())

    def _at_work(self, plan: Plan, scale: Scale, tell: Tell, opened: _Opened) -> Iterator[Number]:
        yield from self._idle(plan, scale, tell, opened)
        yield from self._chain(plan, scale, tell, opened)
        if plan.wants(self.contender, m.FANOUT) and not self._brief:
            tell("fan-out")
            work = opened.waiting("fanout100a")
            opened.run(warm_up(work, 8, clients=FANOUT_CLIENTS))
            rate = opened.run(closed_loop(work, clients=FANOUT_CLIENTS, seconds=scale.seconds))
            yield self._number(m.FANOUT, rate.per_s, rate.count, clients=FANOUT_CLIENTS, workers=WORKERS)

    def _idle(self, plan: Plan, scale: Scale, tell: Tell, opened: _Opened) -> Iterator[Number]:
        if plan.wants_any(self.contender, m.IDLE_P50, m.IDLE_P99):
            tell("POST to result, one at a time")
            taken = opened.run(one_by_one(opened.waiting("chain10a"), scale.idle))
            yield self._number(m.IDLE_P50, percentile(taken, 50), len(taken), workers=WORKERS)
            yield self._number(m.IDLE_P99, percentile(taken, 99), len(taken), workers=WORKERS)
        if plan.wants_any(self.contender, m.ACCEPT_P50, m.ACCEPT_P99):
            tell("POST accepted, one at a time")
            taken = opened.run(_accepted_when_idle(opened.door, scale.idle))
            yield self._number(m.ACCEPT_P50, percentile(taken, 50), len(taken))
            yield self._number(m.ACCEPT_P99, percentile(taken, 99), len(taken))

    def _chain(self, plan: Plan, scale: Scale, tell: Tell, opened: _Opened) -> Iterator[Number]:
        if plan.wants(self.contender, m.CHAIN):
            tell(f"10-node chain, {CLIENTS} clients")
            rate = opened.run(closed_loop(opened.waiting("chain10a"), clients=CLIENTS, seconds=scale.seconds))
            yield self._number(m.CHAIN, rate.per_s, rate.count, clients=CLIENTS, workers=WORKERS)
        if plan.wants_any(self.contender, m.BURST, m.ACCEPT_BURST_P99):
            tell(f"a burst of {scale.burst} runs")
            rate, accepted_ms = opened.run(_burst(opened.door, "chain10a", scale.burst))
            yield self._number(m.BURST, rate.per_s, rate.count, clients=BURST_CLIENTS, workers=WORKERS)
            yield self._number(m.ACCEPT_BURST_P99, percentile(accepted_ms, 99), len(accepted_ms), clients=BURST_CLIENTS)

    def _waits(self, scale: Scale, tell: Tell, opened: _Opened) -> Iterator[Number]:
        tell(f"{scale.waiting} waiting runs in one worker")
        opened.run(_burst(opened.door, "io3a", 16))
        rate, _ = opened.run(_burst(opened.door, "io3a", scale.waiting))
        yield self._number(m.WAITS, rate.seconds, rate.count, workers=1)

    def _kill(self, scale: Scale, tell: Tell, opened: _Opened) -> Iterator[Number]:
        tell(f"kill -9 of one of two workers with {scale.killed} runs")
        back = opened.run(seconds_until_back(opened.stack, opened.door, scale.killed))
        yield self._number(m.RECOVERY, back.seconds, back.in_hand, workers=2, lease_s=back.lease_s)
        yield self._number(m.LOST, back.lost, scale.killed)

    def _number(self, measure: m.Measure, value: float, count: int, **detail: Any) -> Number:
        return Number(contender=self.contender.name, measure=measure.name, value=value, count=count, detail=detail)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A stack, the way in, and one event loop for all that is measured on it. Nothing may take for ever."""

    stack: Stack
    door: Door
    runner: asyncio.Runner
    limit_s: float

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, self.limit_s))

    def waiting(self, graph: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            workloads.check(graph, await self.door.wait(graph))

        return work


async def _accepted_when_idle(door: Door, count: int) -> list[float]:
    """How long POST takes, each after the run before it has ended."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        run = await door.start("chain10a")
        taken.append((time.perf_counter() - began) * 1000)
        workloads.check("chain10a", await door.join(run))
    return taken


async def _burst(door: Door, graph: str, count: int) -> tuple[Rate, list[float]]:
    """All at once: from the first POST to the last result, and how long each POST took in ms."""
    accepted: list[Any] = []
    taken: list[float] = []

    async def start() -> None:
        began = time.perf_counter()
        accepted.append(await door.start(graph))
        taken.append((time.perf_counter() - began) * 1000)

    async def join() -> None:
        workloads.check(graph, await door.join(accepted.pop()))

    began = time.monotonic()
    await all_at_once([start] * count, clients=BURST_CLIENTS)
    accepted.reverse()  # the oldest first, which has waited longest
    await all_at_once([join] * count, clients=4)
    return Rate(count, time.monotonic() - began), taken
