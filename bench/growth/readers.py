"""Short requests while many clients listen to quiet streams and runs come in at a steady pace."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import workloads
from bench.growth.found import Found, Size
from bench.growth.sse import Reader
from bench.growth.stage import Stage, stage
from bench.measure import Tell, percentile

GRAPH = "chain10a"
GOAL_MS = 100.0
#: Between two short requests of a kind.
PAUSE_S = 0.05
#: Streams that are opened at once.
OPENING = 20


@dataclass(slots=True)
class _Seen:
    """Ms of each answer, by kind of request; how long the runs took; what was late to start."""

    took: dict[str, list[float]] = field(default_factory=dict)
    runs_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)

    async def time(self, kind: str, work: Awaitable[Any]) -> Any:
        began = time.perf_counter()
        answer = await work
        self.took.setdefault(kind, []).append((time.perf_counter() - began) * 1000)
        return answer


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                f"{size.readers:,} clients listen to {size.read_runs} runs that say nothing, two web processes, "
                "two workers, "
                f"appendfsync always; {size.runs_s:g} ten-node runs start each second, whatever becomes of those "
                "before, and "
                f"meanwhile a thread is read and one is made every {PAUSE_S * 1000:g} ms each; {2 * size.loop_s:g} s."
            ),
            "p99 of the answers to these two and to the POSTs that start the runs.",
        ]
    )
    with stage(workers=2, limit_s=120.0) as on:
        on.run(_all(found, on, size, tell))
    return found


async def _all(found: Found, on: Stage, size: Size, tell: Tell) -> None:
    tell(f"opening {size.readers:,} streams")
    async with _reading(on, size) as readers:
        web_mb = on.web_mb()
        tell(f"{size.runs_s:g} runs/s and short requests meanwhile")
        seen = await _at_work(on, size, 2 * size.loop_s)
        assert not any(reader.done() for reader in readers), "a stream ended"
    on.kill_workers()  # in order they would wait for the runs that say nothing
    _say(found, size, seen, web_mb)


@asynccontextmanager
async def _reading(on: Stage, size: Size) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Streams that are open, each in a task that ends with it, until the block ends."""
    body = {"assistant_id": "call", "input": {"wait_s": 100.0 + 4 * size.loop_s}, "if_not_exists": "create"}
    runs = [await on.http.ask("POST", f"/threads/{uuid.uuid4()}/runs", body) for _ in range(size.read_runs)]
    opening = asyncio.Semaphore(OPENING)
    async with AsyncExitStack() as stack:

        async def open_one(number: int) -> Reader:
            run = runs[number % len(runs)]
            path = f"/threads/{run['thread_id']}/runs/{run['run_id']}/stream"
            async with opening:
                return await stack.enter_async_context(Reader(on.stack.port, "GET", path))

        opened = await asyncio.gather(*(open_one(number) for number in range(size.readers)))
        tasks = [asyncio.create_task(_listen(reader)) for reader in opened]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(reader: Reader) -> None:
    async for _ in reader.heard():
        pass


async def _at_work(on: Stage, size: Size, seconds: float) -> _Seen:
    seen, ends = _Seen(), time.monotonic() + seconds
    thread = await on.http.ask("POST", "/threads", {})

    async def again(kind: str, ask: Callable[[], Awaitable[Any]]) -> None:
        while time.monotonic() < ends:
            await seen.time(kind, ask())
            await asyncio.sleep(PAUSE_S)

    asks = (
        again("read a thread", lambda: on.http.ask("GET", f"/threads/{thread['thread_id']}")),
        again("make a thread", lambda: on.http.ask("POST", "/threads", {})),
    )
    await asyncio.gather(*asks, _paced(on, size, seen, seconds))
    return seen


async def _paced(on: Stage, size: Size, seen: _Seen, seconds: float) -> None:
    """Start runs at a steady pace, and check what each comes to in the end."""
    tasks, began = [], time.monotonic()
    for number in range(round(size.runs_s * seconds)):
        due = began + number / size.runs_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        seen.late_ms.append(max(0.0, time.monotonic() - due) * 1000)
        tasks.append(asyncio.create_task(_one(on, seen)))
    await asyncio.gather(*tasks)


async def _one(on: Stage, seen: _Seen) -> None:
    body = {"assistant_id": GRAPH, "input": workloads.GIVEN[GRAPH], "if_not_exists": "create"}
    began = time.perf_counter()
    run = await seen.time("start a run", on.http.ask("POST", f"/threads/{uuid.uuid4()}/runs", body))
    result = await on.http.ask("GET", f"/threads/{run['thread_id']}/runs/{run['run_id']}/join")
    seen.runs_ms.append((time.perf_counter() - began) * 1000)
    workloads.check(GRAPH, result)


def _say(found: Found, size: Size, seen: _Seen, web_mb: float) -> None:
    beside = f"beside {size.readers:,} readers and {size.runs_s:g} runs/s"
    for kind, took in seen.took.items():
        name = kind.replace(" ", "_")
        found.add(f"readers_{name}_p50_ms", f"{kind} {beside}, p50", percentile(took, 50), "ms", count=len(took))
        found.add(
            f"readers_{name}_p99_ms", f"{kind} {beside}, p99", percentile(took, 99), "ms", count=len(took), goal=GOAL_MS
        )
    runs = seen.runs_ms
    found.add(
        "readers_runs_p50_ms", f"a run {beside}, from POST to result, p50", percentile(runs, 50), "ms", count=len(runs)
    )
    found.add(
        "readers_client_late_ms",
        "the client itself was late by, p99",
        percentile(seen.late_ms, 99),
        "ms",
        count=len(runs),
    )
    found.add(
        "readers_web_mb",
        f"memory of both web processes with {size.readers:,} readers",
        web_mb,
        "MB",
        count=size.readers,
    )
