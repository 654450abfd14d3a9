"""Kill a worker in the middle of its work, and see when another goes on with every run it had."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from bench import workloads
from bench.doors import Door
from bench.stack import Child, Stack
from runyard.engine.run import TERMINAL, Run
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import open_store

GRAPH = "slow10a"


@dataclass(frozen=True, slots=True)
class Back:
    #: From the kill until the last of the killed worker's runs was in another's hands.
    seconds: float
    #: Runs the killed worker had.
    in_hand: int
    lost: int
    lease_s: float


async def seconds_until_back(stack: Stack, door: Door, count: int) -> Back:
    service = _reading(stack)
    started = await asyncio.gather(*(door.start(GRAPH) for _ in range(count)))
    ids = [run["run_id"] for run in started]
    await _until(lambda: all(run.progress_at for run in _runs(service, ids)), 10.0)
    victim, orphans = _victim(stack, _runs(service, ids))
    victim.kill()
    del stack.children[victim.name]
    began = time.monotonic()
    await _until(lambda: all(_is_back(run, victim.pid) for run in _runs(service, orphans)), 60.0)
    seconds = time.monotonic() - began
    lost = await _lost(door, started)
    service.store.close()
    return Back(seconds, len(orphans), lost, service.settings.lease_s)


def _reading(stack: Stack) -> Service:
    """A look into the store; it wakes nobody."""
    settings = Settings.from_env(stack.environment)
    store = SyncStore.connect(settings.redis_url)
    keys = open_store(store, Keys(settings.prefix, settings.partitions))
    return Service(store, keys, settings, lambda _: None)


def _runs(service: Service, ids: list[str]) -> list[Run]:
    return [service.get_run(run_id) for run_id in ids]


def _victim(stack: Stack, runs: list[Run]) -> tuple[Child, list[str]]:
    """The worker with the most runs in hand, and which those are."""
    workers = [child for name, child in stack.children.items() if name.startswith("worker")]
    in_hand = {child.name: [run.run_id for run in runs if _is_of(run, child.pid)] for child in workers}
    victim = max(workers, key=lambda child: len(in_hand[child.name]))
    if not in_hand[victim.name]:
        raise RuntimeError("no worker has any of the runs in hand")
    return victim, in_hand[victim.name]


def _is_of(run: Run, pid: int) -> bool:
    return run.phase not in TERMINAL and f":{pid}:" in (run.owner or "")


def _is_back(run: Run, dead_pid: int) -> bool:
    return run.phase in TERMINAL or (run.owner is not None and f":{dead_pid}:" not in run.owner)


async def _until(condition: Any, timeout_s: float) -> None:
    ends = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        if time.monotonic() > ends:
            raise TimeoutError(f"the runs were not where they should be within {timeout_s:g} s")
        await asyncio.sleep(0.02)


async def _lost(door: Door, started: list[Any]) -> int:
    """How many of the runs did not come to the right result in the end."""
    lost = 0
    for run in started:
        try:
            workloads.check(GRAPH, await asyncio.wait_for(door.join(run), 30.0))
        except (workloads.WrongResult, TimeoutError):
            lost += 1
    return lost
