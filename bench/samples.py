"""py-spy's samples, added up by the part of the code that was at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

#: The innermost frame that belongs to a part counts. Frames of the standard library count for who called them.
PARTS = (
    (
        "LangGraph",
        ("/langgraph/pregel/", "/langgraph/channels/", "/langgraph/_internal/", "/langgraph/runtime", "/langgraph/"),
    ),
    ("LangChain core (callbacks, config)", ("/langchain_core/", "/langsmith/")),
    ("serializer (msgpack, zstd, JSON)", ("/store/serde.py", "/checkpoint/serde/", "/ormsgpack/", "engine/wire.py")),
    ("saver", ("engine/saver.py", "/store/checkpoint")),
    ("Redis client", ("/redis/", "/store/client.py", "/hiredis/", "/store/scripts.py")),
    (
        "seam, slice, feed",
        (
            "engine/seam/",
            "engine/slice.py",
            "engine/prepared.py",
            "engine/given.py",
            "engine/feed.py",
            "engine/advance.py",
        ),
    ),
    ("engine, the rest", ("/engine/",)),
    (
        "Celery, kombu",
        (
            "/celery/",
            "/kombu/",
            "/vine/",
            "/amqp/",
            "/billiard/",
            "/main/tasks/",
            "tasks/runs.py",
            "tasks/wake.py",
            "tasks/pool.py",
            "tasks/coroutine.py",
        ),
    ),
    ("logging", ("/structlog/", "/logging/")),
    (
        "web (Flask, marshmallow)",
        ("/flask", "/werkzeug/", "/marshmallow/", "/webargs/", "/apispec/", "/main/app/", "app/api/"),
    ),
    ("gunicorn", ("/gunicorn/",)),
    ("the graph's own nodes", ("bench/workloads.py",)),
)
REST = "event loop, threads, the rest"


def part_of(stack: str) -> str:
    """The part that a stack (``outermost;...;innermost``, each ``function (file:line)``) belongs to."""
    for frame in reversed(stack.split(";")):
        file = "/" + frame.rpartition("(")[2].rpartition(":")[0]
        for part, marks in PARTS:
            if any(mark in file for mark in marks):
                return part
    return REST


def by_part(lines: Iterable[str]) -> dict[str, float]:
    """Share of each part, the largest first."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if stack:
            counts[part_of(stack)] += int(count)
    whole = sum(counts.values())
    return {part: count / whole for part, count in counts.most_common()}
