"""A whole Runyard on which growth is measured, and what its processes spend on a run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis

from bench.http_client import Pool
from bench.measure import Work, all_at_once, percentile
from bench.profiling import cpu_of, pids, stat
from bench.stack import Stack
from runyard.engine.store.keys import Keys

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stack, a way in over HTTP, a look into the store, and a loop. Nothing may take longer than ``limit_s``."""

    stack: Stack
    http: Pool
    store: redis.Redis
    runner: asyncio.Runner
    limit_s: float

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, self.limit_s))

    def memory(self) -> int:
        """Bytes that the store uses for data and all else."""
        return int(self.store.info("memory")["used_memory"])

    def data(self) -> int:
        """Bytes of it that keys and what they hold take: no buffers, which come and go. Reads them all."""
        keys = list(self.store.scan_iter(count=1000))
        asked = self.store.pipeline(transaction=False)
        for key in keys:
            asked.memory_usage(key, samples=0)
        return sum(size or 0 for size in asked.execute())

    def cpu(self) -> dict[str, float]:
        """CPU in ms until now: store, web, workers, client."""
        known = cpu_of(self.stack)
        workers = sum(ms for name, ms in known.items() if name.startswith("worker"))
        return {"store": known["store"], "web": known.get("web", 0.0), "workers": workers, "client": known["client"]}

    def ready_workers(self) -> int:
        """Workers that give signs of life."""
        return int(self.store.zcard(Keys().workers))

    def scripts(self) -> int:
        """Scripts that the store has run until now."""
        said = self.store.info("commandstats")
        return sum(int(said[name]["calls"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in said)

    def worker_mb(self, number: int = 0, field: str = "VmRSS") -> float:
        return _memory_mb(self.stack.children[f"worker{number}"].pid, field)

    def kill_workers(self) -> None:
        for name in [name for name in self.stack.children if name.startswith("worker")]:
            self.stack.children.pop(name).kill()

    def web_mb(self) -> float:
        """What gunicorn and its processes have in memory together; pages that they share count for each."""
        root = self.stack.children["web"].pid
        return sum(_memory_mb(pid, "VmRSS") for pid in pids() if pid == root or stat(pid)[0] == root)


@contextlib.contextmanager
def stage(*, workers: int, limit_s: float = 150.0, settings: Mapping[str, str] | None = None) -> Iterator[Stage]:
    with Stack(workers=workers, settings=settings) as stack, asyncio.Runner() as runner:
        http, store = Pool("127.0.0.1", stack.port), redis.Redis.from_url(stack.redis_url)
        try:
            yield Stage(stack, http, store, runner, limit_s)
        finally:
            http.close()
            store.close()


def cost(on: Stage, work: Work, *, clients: int, seconds: float, idle: float = 0.0) -> dict[str, float]:
    """What one run costs: ms of CPU by kind of process and in all, scripts of the store, runs/s, p50 and p99 in ms.

    ``idle`` scripts a second are none of the runs'. A round that is not counted says how many runs fill the time. Every
    run that costs something is counted: what is measured begins and ends with nothing under way.
    """
    taken: list[float] = []

    async def timed() -> None:
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1000)

    first = on.run(all_at_once([work] * max(clients, 4), clients=clients))
    count = max(2 * clients, round(first.per_s * seconds))
    cpu, scripts = on.cpu(), on.scripts()
    rate = on.run(all_at_once([timed] * count, clients=clients))
    spent = {name: (ms - cpu[name]) / count for name, ms in on.cpu().items()}
    return {
        **spent, "all": sum(spent.values()), "scripts": (on.scripts() - scripts) / count - idle / rate.per_s,
        "runs_s": rate.per_s, "p50_ms": percentile(taken, 50), "p99_ms": percentile(taken, 99), "count": count,
    }  # fmt: skip


def _memory_mb(pid: int, field: str) -> float:
    """What a process has in memory now (VmRSS), or had at most (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
