"""Plain LangGraph in this process: one asyncio loop, one core, nothing between the caller and the graph. The floor."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from bench import measures as m, workloads
from bench.measure import Number, Scale, Tell, Work, closed_loop, one_by_one, percentile, warm_up
from bench.plan import Plan

#: Runs in flight on the loop. More make it no faster: there is one core.
CLIENTS = 16
FANOUT_CLIENTS = 4


class InProcess:
    """One way to run the graphs. ``saver``: an InMemorySaver for each run, so that memory stays flat."""

    def __init__(self, contender: m.Contender, *, saver: bool) -> None:
        self.contender, self._saver = contender, saver

    def measure(self, plan: Plan, scale: Scale, tell: Tell) -> Iterator[Number]:
        if plan.wants(self.contender, m.CHAIN):
            tell("10-node chain")
            rate = asyncio.run(self._rate("chain10a", CLIENTS, scale))
            yield self._number(m.CHAIN, rate.per_s, rate.count, clients=CLIENTS)
        if plan.wants_any(self.contender, m.IDLE_P50, m.IDLE_P99):
            tell("one run at a time")
            taken = asyncio.run(self._idle(scale))
            yield self._number(m.IDLE_P50, percentile(taken, 50), len(taken))
            yield self._number(m.IDLE_P99, percentile(taken, 99), len(taken))
        if plan.wants(self.contender, m.FANOUT):
            tell("fan-out")
            rate = asyncio.run(self._rate("fanout100a", FANOUT_CLIENTS, scale))
            yield self._number(m.FANOUT, rate.per_s, rate.count, clients=FANOUT_CLIENTS)
        if plan.wants(self.contender, m.WAITS):
            tell(f"{scale.waiting} waiting runs")
            wall_s = asyncio.run(self._waits(scale))
            yield self._number(m.WAITS, wall_s, scale.waiting)

    async def _rate(self, graph: str, clients: int, scale: Scale) -> Any:
        work = self._work(graph)
        async with asyncio.timeout(scale.limit_s):
            await warm_up(work, scale.warm // 2, clients=clients)
            return await closed_loop(work, clients=clients, seconds=scale.seconds)

    async def _idle(self, scale: Scale) -> list[float]:
        work = self._work("chain10a")
        async with asyncio.timeout(scale.limit_s):
            await warm_up(work, scale.warm, clients=1)
            return await one_by_one(work, scale.idle)

    async def _waits(self, scale: Scale) -> float:
        work = self._work("io3a")
        async with asyncio.timeout(scale.limit_s):
            await work()
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(work() for _ in range(scale.waiting)))
            return asyncio.get_running_loop().time() - began

    def _work(self, graph: str) -> Work:
        compiled = getattr(workloads, graph)

        async def work() -> None:
            bound = compiled.copy(update={"checkpointer": InMemorySaver()}) if self._saver else compiled
            config = {"configurable": {"thread_id": str(uuid.uuid4())}} if self._saver else None
            workloads.check(graph, await bound.ainvoke(workloads.GIVEN[graph], config))

        return work

    def _number(self, measure: m.Measure, value: float, count: int, **detail: Any) -> Number:
        return Number(contender=self.contender.name, measure=measure.name, value=value, count=count, detail=detail)
