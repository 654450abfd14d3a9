"""Throughput after many finished runs against the start, and what a run leaves in the store."""

from __future__ import annotations

from collections.abc import Sequence

from bench import workloads
from bench.doors import Door
from bench.growth.bulk import finish, way_into
from bench.growth.found import Found, Size
from bench.growth.stage import Stage, cost, stage
from bench.measure import Tell

CLIENTS, WORKERS = 32, 2
GRAPH = "chain10a"
#: Loops before and after, of which the best counts: other work on the machine only makes one worse.
LOOPS = 2


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                f"Ten-node async chain over HTTP, {CLIENTS} clients, {WORKERS} workers, appendfsync always; the "
                "better of "
                f"{LOOPS} loops before and after {size.finished:,} runs were finished by the engine's scripts in "
                "the same store."
            ),
        ]
    )
    with stage(workers=WORKERS) as on:
        tell("throughput at the start")
        before = _loops(on, size)
        tell(f"finishing {size.finished:,} runs")
        way = way_into(on.stack.redis_url)
        finish(way, size.finished)
        way.close()
        tell("throughput after them")
        after = _loops(on, size)
    _say(found, size, before, after)
    return found


def _loops(on: Stage, size: Size) -> list[dict[str, float]]:
    door = Door(on.stack.port)

    async def work() -> None:
        workloads.check(GRAPH, await door.wait(GRAPH))

    had = on.memory()
    loops = [cost(on, work, clients=CLIENTS, seconds=size.loop_s) for _ in range(LOOPS)]
    on.run(door.close())
    runs = sum(loop["count"] + CLIENTS for loop in loops)  # each has a round of that many first
    return [{**loop, "bytes": (on.memory() - had) / runs} for loop in loops]


def _say(
    found: Found, size: Size, before: Sequence[dict[str, float]], after: Sequence[dict[str, float]]
) -> None:  # fmt: skip
    for x, loops in ((0, before), (size.finished, after)):
        found.point("finished", x, min(loops, key=lambda loop: loop["all"]))
    count = int(sum(loop["count"] for loop in after))
    rates = [max(loop["runs_s"] for loop in loops) for loops in (before, after)]
    spent = [min(loop["all"] for loop in loops) for loops in (before, after)]
    of = f"after {size.finished:,} finished runs"
    found.add("finished_runs_s", f"throughput {of}", rates[1], "runs/s", count=count, better="higher")
    found.add(
        "finished_ratio", f"throughput {of} to the start's", rates[1] / rates[0], "x", count=count, better="higher",
        goal=0.95,
    )  # fmt: skip
    found.add(
        "finished_cpu_ratio", f"CPU of a run {of} to the start's", spent[1] / spent[0], "x", count=count, goal=1.05
    )
    found.add(
        "run_bytes",
        "what a ten-node run leaves in the store, all its history",
        before[0]["bytes"],
        "bytes",
        count=count,
    )
