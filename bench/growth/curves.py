"""How what a run costs grows: with its nodes, its state, its width, the clients that ask at once, and the workers."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
import uuid
from typing import Any

from bench import workloads
from bench.growth.found import Found, Size
from bench.growth.stage import Stage, cost, stage
from bench.measure import Tell, Work

WORKERS, CLIENTS = 2, 32
#: Clients where what is measured is CPU for a run: enough that nothing waits, few enough that runs are soon over.
FEW = 8


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                f"Over HTTP (runs/wait), two web processes, {WORKERS} workers if nothing else is said, "
                "appendfsync always; a "
                f"thread for each run. Nodes, state, width: {FEW} clients. Workers: {CLIENTS} clients, ten-node "
                "chain. CPU: of "
                "store, web, workers and client together for one run, by the kernel's account."
            ),
        ]
    )
    with stage(workers=WORKERS) as on:
        found.add("fsync_ms", "one small write to this disk, p50", _fsync_ms(), "ms", count=200)
        idle = _say_idle(found, on, tell)
        for nodes in size.nodes:
            tell(f"{nodes} nodes")
            found.point("nodes", nodes, cost(on, _chain(on, nodes), clients=FEW, seconds=size.point_s, idle=idle))
        for kb in size.state_kb:
            tell(f"{kb} kB of state")
            found.point("state_kb", kb, cost(on, _bulky(on, kb), clients=FEW, seconds=size.point_s))
        for width in size.widths:
            tell(f"fan-out of {width}")
            found.point("width", width, cost(on, _fan(on, width), clients=FEW, seconds=size.point_s))
        for clients in size.clients:
            tell(f"{clients} clients")
            found.point("clients", clients, cost(on, _chain(on, 10), clients=clients, seconds=size.point_s))
    for workers in size.workers:
        tell(f"{workers} workers")
        with stage(workers=workers) as on:
            cost(on, _chain(on, 10), clients=CLIENTS, seconds=0.5)
            found.point("workers", workers, cost(on, _chain(on, 10), clients=CLIENTS, seconds=size.point_s))
    return found


def _say_idle(found: Found, on: Stage, tell: Tell) -> float:
    """What the stack does when nobody asks for anything; answers how many scripts a second that is."""
    tell("nothing")
    cost(on, _chain(on, 10), clients=4, seconds=0.5)
    seconds, cpu, scripts = 2.0, on.cpu(), on.scripts()
    on.run(asyncio.sleep(seconds))
    spent = sum(ms - cpu[name] for name, ms in on.cpu().items() if name != "client") / seconds
    found.add("idle_cpu_ms_s", "CPU of an idle stack in a second", spent, "ms", count=1)
    found.add(
        "idle_scripts_s",
        "scripts of an idle stack in a second",
        idle := (on.scripts() - scripts) / seconds,
        "scripts",
        count=1,
    )
    return idle


def _work(on: Stage, graph: str, given: dict[str, Any], key: str, expected: Any) -> Work:
    async def one() -> None:
        body = {"assistant_id": graph, "input": given, "if_not_exists": "create", "config": {"recursion_limit": 1000}}
        values = await on.http.ask("POST", f"/threads/{uuid.uuid4()}/runs/wait", body)
        if not isinstance(values, dict) or values.get(key) != expected:
            raise workloads.WrongResult(f"{graph} came to {str(values)[:300]} instead of {key}={expected!r}"[:600])

    return one


def _chain(on: Stage, nodes: int) -> Work:
    return _work(on, f"chain{nodes}a", {"log": []}, "log", [f"n{i}" for i in range(nodes)])


def _bulky(on: Stage, kb: int) -> Work:
    return _work(on, "bulky", {"kb": kb}, "seen", kb * 1000)


def _fan(on: Stage, width: int) -> Work:
    return _work(on, "fanout100a", {"n": width}, "total", width * (width - 1))


def _fsync_ms() -> float:
    """How long a small append takes to be on the disk that the store writes to."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(200):
            file.write(b"x" * 300)
            file.flush()
            began = time.perf_counter()
            (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)
