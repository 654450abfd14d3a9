"""A fan-out whose branches run on other workers: what a branch costs more, and whether more workers are faster."""

from __future__ import annotations

import time
import uuid
from statistics import median

from bench.growth.found import Found, Size
from bench.growth.graphs import AWAY
from bench.growth.stage import Stage, stage
from bench.measure import Tell
from runyard.app.processes import WORKER

#: Branches of a fan-out, when what a branch costs is asked, and how many of those are timed on each side.
WIDTH = 100
#: Branches that hold a thread, how long each does, and how many threads a worker has for them.
BRANCHES, WAIT_S, THREADS = 64, 0.25, 4
TIMES = 3
#: At most so much more for a branch, in ms; and so many times as fast with so many workers instead of one.
MORE_GOAL_MS, FASTER_GOAL = 1.0, 3.0


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                "A fan-out, asked for over HTTP, one worker for the run and others for the queue of its branches; "
                f"appendfsync always. More for a branch: {WIDTH} that do nothing, on one other worker and at home in "
                f"turn, {size.spread} times each; medians. Workers: {BRANCHES} that hold a thread for {WAIT_S:g} s "
                f"each, of which a worker has {THREADS}; the quickest of {TIMES}."
            ),
        ]
    )
    _add_cost(found, size, tell)
    walls = [(count, _wall_s(count, tell)) for count in size.away_workers]
    for count, wall_s in walls:
        found.point("spread", count, {"wall_s": wall_s, "ideal_s": BRANCHES / THREADS / count * WAIT_S})
    (one, alone_s), (most, together_s) = walls[0], walls[-1]
    title = f"{BRANCHES} blocking branches on {most} workers to {one}: as fast"
    goal = FASTER_GOAL * most / 4
    found.add("spread_faster", title, alone_s / together_s, "x", count=TIMES, better="higher", goal=goal)
    return found


def _add_cost(found: Found, size: Size, tell: Tell) -> None:
    taken: dict[str, list[float]] = {"home": [], "away": []}
    with stage(workers=1) as on:
        _start_others(on, 1)
        tell(f"{WIDTH} branches at home and away")
        for turn in range(size.spread + 1):
            for graph, times in taken.items():
                took_s = _run_s(on, graph, WIDTH, 0.0)
                if turn:  # the first warms up
                    times.append(took_s)
    home_s, away_s = median(taken["home"]), median(taken["away"])
    found.add("spread_more_ms", f"a branch on another worker, of {WIDTH}, costs more", (away_s - home_s) * 1000 / WIDTH,
              "ms", count=size.spread, goal=MORE_GOAL_MS)  # fmt: skip
    found.add("spread_home_ms", f"a fan-out of {WIDTH} at home, p50", home_s * 1000, "ms", count=size.spread)
    found.add("spread_away_ms", f"a fan-out of {WIDTH} on another worker, p50", away_s * 1000, "ms", count=size.spread)


def _wall_s(workers: int, tell: Tell) -> float:
    with stage(workers=1) as on:
        _start_others(on, workers, RUNYARD_SYNC_THREADS=str(THREADS))
        tell(f"{BRANCHES} blocking branches on {workers} workers")
        _run_s(on, "block", 2 * workers, 0.0)
        return min(_run_s(on, "block", BRANCHES, WAIT_S) for _ in range(TIMES))


def _start_others(on: Stage, count: int, **settings: str) -> None:
    """Workers of the branches' queue, and a fan-out that is done when all of them work."""
    for number in range(count):
        env = {**on.stack.environment, "RUNYARD_QUEUE": AWAY, **settings}
        on.stack.spawn(f"worker-away{number}", WORKER.command, env)
    until = time.monotonic() + on.limit_s
    while on.ready_workers() < count + 1:
        on.stack.fail_if_ended()
        if time.monotonic() > until:
            raise TimeoutError(f"of {count + 1} workers {on.ready_workers()} are there after {on.limit_s:g} s")
        time.sleep(0.1)


def _run_s(on: Stage, graph: str, branches: int, wait_s: float) -> float:
    """How long a run takes, from POST to result. Raises AssertionError for a wrong one."""
    body = {"assistant_id": graph, "input": {"branches": branches, "wait_s": wait_s}, "if_not_exists": "create"}
    began = time.perf_counter()
    values = on.run(on.http.ask("POST", f"/threads/{uuid.uuid4()}/runs/wait", body))
    took_s = time.perf_counter() - began
    assert values == {"branches": branches, "wait_s": wait_s, "done": branches}, values
    return took_s
