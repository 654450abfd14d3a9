"""Thousands of runs that wait on a slow call at once, in one worker process."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import orjson

from bench.growth.alone import kb_each
from bench.growth.bulk import Way, way_into
from bench.growth.found import Found, Size
from bench.growth.stage import Stage, stage
from bench.measure import Tell, all_at_once, percentile
from runyard.engine.service import Service

#: How many POSTs are under way at once.
CLIENTS = 16
#: A run is late by what its end came later than its call did, and a worker may take so long for it.
LATE_GOAL_S, MEMORY_GOAL_MB = 2.0, 400.0


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                f"{size.waiting:,} runs of one node that waits {size.wait_s:g} s, started over HTTP by {CLIENTS} "
                "clients as fast "
                "as they are accepted, in one worker process that takes as many; appendfsync always. Late: from "
                "the end of the "
                "node's wait to the end of the run in the store. LangGraph alone: as many in a process of their own, "
                "with its memory saver."
            ),
        ]
    )
    settings = {"RUNYARD_CONCURRENCY": str(size.waiting + 100)}
    with stage(workers=1, settings=settings, limit_s=60.0 + 4 * size.wait_s) as on:
        way = way_into(on.stack.redis_url)
        try:
            on.run(_wait_for_all(found, on, way, size, tell))
        finally:
            way.close()
    tell("the same with LangGraph alone")
    found.add("waiting_alone_kb", "the same, LangGraph alone", kb_each(size.waiting), "kB", count=size.waiting)
    return found


async def _wait_for_all(found: Found, on: Stage, way: Way, size: Size, tell: Tell) -> None:
    idle_mb, watch, runs = on.worker_mb(), _Watch(on, way.service), []

    async def start() -> None:
        path, body = f"/threads/{uuid.uuid4()}/runs", _body(size.wait_s)
        runs.append(await on.http.ask("POST", path, body))

    watching = asyncio.create_task(watch.go())
    tell(f"starting {size.waiting:,} runs")
    rate = await all_at_once([start] * size.waiting, clients=CLIENTS)
    tell("waiting for them to end")
    try:
        await asyncio.wait_for(watch.none_left.wait(), 30.0 + 3 * size.wait_s)
    finally:
        watch.stop = True
        await watching
    late = [await _late_s(way.service, run) for run in runs]
    _say(found, size, late, watch, on.worker_mb(field="VmHWM"), idle_mb, rate.per_s)


def _body(wait_s: float) -> dict[str, Any]:
    return {"assistant_id": "call", "input": {"wait_s": wait_s}, "if_not_exists": "create"}


async def _late_s(service: Service, started: dict[str, Any]) -> float:
    """By how many seconds a run was late. Raises AssertionError for one that did not end well."""
    run, thread = service.get_run(started["run_id"]), service.get_thread(started["thread_id"])
    assert run.status == "success", f"run {run.run_id} is {run.status}"
    values = orjson.loads(thread.values)
    return float((run.ended_at or 0) / 1000 - values["began"] - values["wait_s"])


class _Watch:
    """How many runs are in hand at most, and when the last has ended."""

    def __init__(self, on: Stage, service: Service) -> None:
        self._on, self._service, self.most, self.stop = on, service, 0, False
        self.none_left = asyncio.Event()

    async def go(self) -> None:
        began = time.monotonic()
        while not self.stop:
            counts = self._service.store_counts()
            in_hand, waiting = counts["leased"][0], counts["waiting"][0]
            self.most = max(self.most, in_hand)
            if self.most and not in_hand and not waiting and time.monotonic() - began > 1.0:
                self.none_left.set()
            await asyncio.sleep(0.25)


def _say(
    found: Found, size: Size, late: list[float], watch: _Watch, most_mb: float, idle_mb: float, accepted_s: float
) -> None:  # fmt: skip
    count, title = len(late), f"{size.waiting:,} runs on slow calls"
    found.add("waiting_at_once", f"{title}: in hand at once", watch.most, "runs", count=count, better="higher",
              goal=size.waiting)  # fmt: skip
    found.add("waiting_mb", f"{title}: memory of the worker at most", most_mb, "MB", count=count, goal=MEMORY_GOAL_MB)
    each_kb = (most_mb - idle_mb) * 1024 / watch.most  # the others waited in the store
    found.add("waiting_late_s", f"{title}: the latest is late by", max(late), "s", count=count, goal=LATE_GOAL_S)
    found.add("waiting_late_p50_s", "half of them are late by less than", percentile(late, 50), "s", count=count)
    found.add("waiting_accepted_s", "accepted meanwhile", accepted_s, "runs/s", count=count, better="higher")
    found.add("waiting_kb_each", "memory for each in hand", each_kb, "kB", count=count)
