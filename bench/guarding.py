"""What guards cost: two whole stacks, one with every guard on and one with none, asked the same in turns.

A worker's round trips are what it counts itself (``runyard_store_round_trips_total``), before and after; those of a
POST are what the store has read meanwhile. What goes on beside (signs of life, recovery) is counted with it now and
then, so the least of several tries is what was asked for; a superstep's are the difference between thirty nodes and
ten, by twenty. On a busy machine more is sent alone, on both sides. POSTs are counted and timed with runs that are to
begin in an hour: no worker takes the core meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.http_client import Connection
from bench.measure import percentile
from bench.stack import ROOT, Stack
from runyard.app.place import free_port
from runyard.engine.api_keys import ApiKeys
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.tenancy import stored

SHORT, LONG = 10, 30
#: graph -> where it is
GRAPHS = {f"chain{SHORT}a": "bench/workloads.py", f"chain{LONG}a": "bench/growth/graphs.py"}
#: Wide enough that nobody is ever held up: what is measured is the asking.
WIDE = 100_000
#: What goes on in a process beside what it was asked for is made rare, on both sides.
QUIET = {"RUNYARD_SWEEP_S": "2", "RUNYARD_WEB_WORKERS": "1", "RUNYARD_LOG_LEVEL": "WARNING"}
ON = {
    "RUNYARD_AUTH": "keys",
    "RUNYARD_AUTH_CACHE_S": "3600",
    "RUNYARD_RATE_LIMITS": f"key={WIDE}/minute; tenant={WIDE}/minute; runs:write={WIDE}/minute",
    "RUNYARD_MAX_QUEUE_AGE_S": "600",
}
_COUNTED = re.compile(r"^runyard_store_round_trips_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def project(*, guarded: bool) -> dict[str, object]:
    """``langgraph.json`` of a side: the same graphs, with each of their nodes guarded in every way, or in none."""
    graphs = {name: f"{ROOT / file}:{name}" for name, file in GRAPHS.items()}
    told: dict[str, object] = {"dependencies": [str(ROOT)], "graphs": graphs}
    if guarded:
        policy = {"limit": "slow", "circuit": "slow", "sla_ms": 60_000}
        account = {"supersteps": WIDE, "tokens": WIDE, "model_calls": WIDE}
        told["runyard"] = {
            "limits": {"slow": {"rate": f"{WIDE}/second", "burst": WIDE, "concurrency": WIDE}},
            "circuits": {"slow": {}},
            "concurrency": {"tenant": WIDE, "graphs": dict.fromkeys(GRAPHS, WIDE)},
            "budgets": {"run": account, "thread": account, "tenant_day": account},
            "policies": {f"chain{count}a": {f"n{i}": policy for i in range(count)} for count in (SHORT, LONG)},
        }
    return told


@dataclass(slots=True)
class Side:
    """A stack and what was measured of it: round trips for each thing, and ms of each POST."""

    name: str
    stack: Stack
    worker_port: int
    key: str
    post_trips: float = 0.0
    run_trips: dict[int, float] = field(default_factory=dict)
    post_ms: list[float] = field(default_factory=list)
    _connection: Connection = field(init=False)
    _store: SyncStore = field(init=False)
    _asked: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._connection = Connection("127.0.0.1", self.stack.port)
        self._store, self._asked = SyncStore.connect(self.stack.redis_url), itertools.count(1)

    @property
    def superstep_trips(self) -> float:
        return (self.run_trips[LONG] - self.run_trips[SHORT]) / (LONG - SHORT)

    async def post(self) -> None:
        """Have a run recorded, as a client does that may have to ask again."""
        await self._ask("runs", SHORT, after_seconds=3600)

    async def run(self, nodes: int) -> None:
        values = await self._ask("runs/wait", nodes)
        if len(values["log"]) != nodes:  # type: ignore[index]
            raise RuntimeError(f"a run of {nodes} nodes ended with {values}")

    async def timed(self) -> None:
        began = time.perf_counter()
        await self.post()
        self.post_ms.append((time.perf_counter() - began) * 1000)

    async def _ask(self, path: str, nodes: int, **more: object) -> object:
        body = {"assistant_id": f"chain{nodes}a", "input": {"log": []}, "if_not_exists": "create", **more}
        guards = {"X-Api-Key": self.key, "Idempotency-Key": str(uuid.uuid4())} if self.key else {}
        return await self._connection.ask("POST", f"/threads/{uuid.uuid4()}/{path}", body, guards)

    def by_worker(self) -> float:
        """The round trips that the worker says it has made."""
        address = f"http://127.0.0.1:{self.worker_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return sum(map(float, _COUNTED.findall(answer.read().decode())))

    def by_store(self) -> float:
        """What the store has read, but for the question itself."""
        info: Mapping[str, int] = self._store.client.info("stats")  # type: ignore[assignment]
        return info["total_reads_processed"] - next(self._asked)

    def close(self) -> None:
        self._connection.close()


async def count(side: Side, *, tries: int) -> None:
    """Count what a POST costs, and what runs cost in the worker."""
    side.post_trips = await _least(side, side.by_store, side.post, tries)
    for nodes in (SHORT, LONG):
        side.run_trips[nodes] = await _least(side, side.by_worker, lambda nodes=nodes: side.run(nodes), tries)


async def _least(side: Side, counted: Callable[[], float], work: Callable[[], Awaitable[None]], tries: int) -> float:
    counts = []
    for _ in range(tries):
        await asyncio.sleep(0.2)  # what the work before has left to be done is over
        side.close()  # the server does not keep one that nobody has used for a while
        before = counted()
        await work()
        await asyncio.sleep(0.05)
        counts.append(counted() - before)
    return min(counts)


def text(on: Side, off: Side) -> str:
    lines = [f"{'round trips to the store':<40}{'on':>8}{'off':>8}{'more':>8}"]
    rows = {
        "a POST that starts a run": (on.post_trips, off.post_trips),
        f"a run of {SHORT} nodes (worker)": (on.run_trips[SHORT], off.run_trips[SHORT]),
        f"a run of {LONG} nodes (worker)": (on.run_trips[LONG], off.run_trips[LONG]),
        "a superstep (worker)": (on.superstep_trips, off.superstep_trips),
    }
    lines += [f"{name:<40}{one:>8.2f}{other:>8.2f}{one - other:>8.2f}" for name, (one, other) in rows.items()]
    if on.post_ms:
        lines.append(f"\n{'ms for a POST, one after the other':<40}{'on':>8}{'off':>8}{'more':>8}")
        for percent in (50, 90):
            one, other = percentile(on.post_ms, percent), percentile(off.post_ms, percent)
            lines.append(f"{f'p{percent} of {len(on.post_ms)}':<40}{one:>8.2f}{other:>8.2f}{one - other:>8.2f}")
        pairs = [one - other for one, other in zip(on.post_ms, off.post_ms, strict=True)]
        lines.append(f"{'median over pairs':<56}{median(pairs):>8.2f}")
        lines.append(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return "\n".join(lines)


@contextmanager
def _side(name: str, folder: Path, *, guarded: bool) -> Iterator[Side]:
    config, worker_port = folder / f"{name}.json", free_port("127.0.0.1", 0)
    config.write_text(json.dumps(project(guarded=guarded)))
    settings: Mapping[str, str] = {
        **QUIET, **(ON if guarded else {}), "RUNYARD_CONFIG": str(config), "RUNYARD_METRICS_PORT": str(worker_port),
    }  # fmt: skip
    with Stack(workers=1, settings=settings) as stack:
        yield Side(name, stack, worker_port, _key(stack.redis_url) if guarded else "")


def _key(redis_url: str) -> str:
    store = SyncStore.connect(redis_url)
    try:
        return ApiKeys(store, Keys()).create("bench", ("*",), tenant=stored("acme"))[1]
    finally:
        store.close()


async def _measure(sides: Sequence[Side], options: argparse.Namespace) -> None:
    try:
        await _count_and_time(sides, options)
    finally:
        for side in sides:
            side.close()


async def _count_and_time(sides: Sequence[Side], options: argparse.Namespace) -> None:
    for side in sides:
        for nodes in (SHORT, LONG):
            await side.run(nodes)
        print(f"counting, guards {side.name}", file=sys.stderr)
        await count(side, tries=options.tries)
    for side in sides:
        side.close()
    for turn, side in itertools.product(range(options.posts), sides):
        # Whoever else uses the machine hurts both; each goes first every other time.
        await (sides[(sides.index(side) + turn) % 2]).timed()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench/guards.py", description=__doc__)
    parser.add_argument("--tries", type=int, default=15, help="of each count; the least is told; default 15")
    parser.add_argument("--posts", type=int, default=300, help="timed on each stack; 0: only count; default 300")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="runyard-guards-") as folder,
        _side("on", Path(folder), guarded=True) as on,
        _side("off", Path(folder), guarded=False) as off,
    ):
        asyncio.run(_measure((on, off), options))
    print(text(on, off))
    return 0
