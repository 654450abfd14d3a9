"""From what a node writes to the client that reads it: through worker, store and web."""

from __future__ import annotations

import uuid

from bench.growth.found import Found, Size
from bench.growth.sse import Reader
from bench.growth.stage import Stage, stage
from bench.measure import Tell, percentile

GOAL_MS = 10.0
WARM = 10


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                "One stream at a time on an idle stack, one worker, appendfsync always: a node says what time it "
                "is as its first "
                "token (stream_mode custom), and the client, on the same clock, when it has read that."
            ),
        ]
    )
    tell("first tokens")
    with stage(workers=1) as on:
        late = on.run(_late_ms(on, WARM + size.tokens))[WARM:]
    count = len(late)
    found.add(
        "token_p50_ms", "first token to the client, added, p50", percentile(late, 50), "ms", count=count, goal=GOAL_MS
    )
    found.add("token_p99_ms", "first token to the client, added, p99", percentile(late, 99), "ms", count=count)
    return found


async def _late_ms(on: Stage, count: int) -> list[float]:
    return [await _one(on) for _ in range(count)]


async def _one(on: Stage) -> float:
    body = {"assistant_id": "stamp", "input": {"wait_s": 0.0}, "stream_mode": ["custom"], "if_not_exists": "create"}
    async with Reader(on.stack.port, "POST", f"/threads/{uuid.uuid4()}/runs/stream", body) as reader:
        late = [(event.at - event.json()["at"]) * 1000 async for event in reader.heard() if event.name == "custom"]
    assert len(late) == 1, f"{len(late)} tokens instead of one"
    return late[0]
