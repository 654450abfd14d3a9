"""A long conversation: what a turn costs and leaves in the store at its beginning and at its end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from bench.growth import graphs
from bench.growth.found import Found, Size
from bench.growth.graphs import SAID, text
from bench.growth.sse import Reader
from bench.growth.stage import Stage, stage
from bench.measure import Tell
from runyard.engine.store.keys import Keys

#: graph -> what it is called
TALKS = {"talk_delta": "delta channel", "talk": "plain list"}
LOOKS = 10
#: Turns before the first window: the graph is loaded, and the first checkpoints are no window's.
_WARM = 3
#: A turn at the end may cost so many times what one at the beginning did, and a page so much.
FLAT = 1.5


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                f"One thread, {size.turns:,} turns one after the other: {SAID} characters said, 400 answered; one "
                "node; asked "
                "over HTTP for its updates as a chat client asks (runs/stream); one worker, appendfsync always."
            ),
            (
                f"CPU of store, web and worker for a turn, and bytes it adds to the store: of {size.window} turns "
                "each. Lasting: "
                "without the events, which go an hour after a run's end. LangGraph alone: the same graph in this "
                "process, with its memory saver."
            ),
        ]
    )
    with stage(workers=1, limit_s=180.0) as on:
        for graph, name in TALKS.items():
            _say(found, graph, name, on.run(_talk(on, graph, size, tell)), size)
            tell(f"{name}: LangGraph alone")
            _say_alone(found, graph, name, on.run(_alone(graph, size)), size)
    return found


async def _alone(graph: str, size: Size) -> list[float]:
    """ms of CPU of a turn in the first and the last window with LangGraph itself: in this process, kept in memory."""
    bound = getattr(graphs, graph).copy(update={"checkpointer": InMemorySaver()})
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    spent, began = [], 0.0
    for turn in range(size.turns):
        if turn in (_WARM, size.turns - size.window):
            began = time.process_time()
        said = {"by": "user", "text": text(SAID, turn)}
        modes = ["values", "updates"]  # the result, and what a chat client asks for
        async for _ in bound.astream({"messages": [said]}, config, stream_mode=modes, durability="sync"):
            pass
        if turn + 1 in (_WARM + size.window, size.turns):
            spent.append((time.process_time() - began) * 1000 / size.window)
    return spent


def _say_alone(found: Found, graph: str, name: str, spent: Sequence[float], size: Size) -> None:
    ratio, count, whose = spent[-1] / spent[0], size.window, f"{name}, LangGraph alone"
    found.add(f"{graph}_alone_ratio", f"CPU of turn {size.turns:,} to the first, {whose}", ratio, "x", count=count)
    found.add(f"{graph}_alone", f"CPU of turn {size.turns:,}, {whose}", spent[-1], "ms", count=count)


async def _talk(on: Stage, graph: str, size: Size, tell: Tell) -> list[dict[str, float]]:
    thread_id, points = str(uuid.uuid4()), []
    for turn in range(_WARM):
        await _turn(on, graph, thread_id, turn)
    for start in range(_WARM, size.turns, size.window):
        tell(f"{TALKS[graph]}: turn {start} of {size.turns:,}")
        ends = min(start + size.window, size.turns)
        memory = on.data()
        cpu, began = on.cpu(), time.perf_counter()
        for turn in range(start, ends):
            await _turn(on, graph, thread_id, turn)
        count, wall_ms = ends - start, (time.perf_counter() - began) * 1000
        spent = {part: (ms - cpu[part]) / count for part, ms in on.cpu().items()}
        grown = on.data() - memory
        await _forget_events(on, thread_id, count)
        points.append({
            "x": ends, "all": sum(spent[part] for part in ("store", "web", "workers")), **spent,
            "turn_ms": wall_ms / count, "bytes": (on.data() - memory) / count, "with_events_bytes": grown / count,
            "status_ms": await _quickest(on, f"/threads/{thread_id}/runs?limit=1"),
            "thread_ms": await _quickest(on, f"/threads/{thread_id}"),
            "history_ms": await _quickest(on, f"/threads/{thread_id}/history?limit=1"),
        })  # fmt: skip
    state = await on.http.ask("GET", f"/threads/{thread_id}/state")
    assert len(state["values"]["messages"]) == 2 * size.turns, "a turn is missing"
    return points


async def _turn(on: Stage, graph: str, thread_id: str, turn: int) -> None:
    said = {"by": "user", "text": text(SAID, turn)}
    body: dict[str, Any] = {
        "assistant_id": graph, "input": {"messages": [said]}, "stream_mode": ["updates"], "if_not_exists": "create"
    }  # fmt: skip
    async with Reader(on.stack.port, "POST", f"/threads/{thread_id}/runs/stream", body) as reader:
        told = [event.json() async for event in reader.heard() if event.name == "updates"]
    assert [list(each) for each in told] == [["answer"]], f"turn {turn} told {str(told)[:200]}"
    assert told[0]["answer"]["messages"][0]["turn"] == str(2 * turn + 1), f"turn {turn} answers another"


async def _forget_events(on: Stage, thread_id: str, count: int) -> None:
    """What retention does with the events of runs after a while: what lasts is the history and the records."""
    runs = await on.http.ask("GET", f"/threads/{thread_id}/runs?limit={count}")
    keys = Keys(partitions=16)
    on.store.delete(*(keys.of_run(run["run_id"]).events(run["run_id"]) for run in runs))


async def _quickest(on: Stage, path: str) -> float:
    taken = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        assert await on.http.ask("GET", path)
        taken.append((time.perf_counter() - began) * 1000)
    return min(taken)


def _say(found: Found, graph: str, name: str, points: Sequence[dict[str, float]], size: Size) -> None:
    for point in points:
        found.point(graph, point["x"], {key: value for key, value in point.items() if key != "x"})
    first, last, delta = points[0], points[-1], graph == "talk_delta"
    of, goal = f"turn {size.turns:,} to the first, {name}", {"goal": FLAT} if delta else {}
    for key, what in (("all", "CPU"), ("bytes", "lasting bytes")):
        ratio = last[key] / first[key]
        found.add(f"{graph}_{key}_ratio", f"{what} of {of}", ratio, "x", count=size.window, **goal)
    at = f"of turn {size.turns:,}, {name}"
    for key, what, unit in (
        ("all", "CPU", "ms"), ("bytes", "lasting bytes", "bytes"), ("with_events_bytes", "with events bytes", "bytes")
    ):  # fmt: skip
        found.add(f"{graph}_{key}", f"{what} {at}", last[key], unit, count=size.window)
    for key, what in (("status_ms", "run list"), ("thread_ms", "thread page"), ("history_ms", "last state")):
        # The other two have the whole state in them, and grow with it.
        bounds = {"goal": max(FLAT * first[key], first[key] + 3.0)} if key == "status_ms" else {}
        found.add(
            f"{graph}_{key}", f"{what} after {size.turns:,} turns, {name}", last[key], "ms", count=LOOKS, **bounds
        )
