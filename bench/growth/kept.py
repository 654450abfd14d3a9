"""What finished runs cost that are kept: bytes, and what listing, search and recovery take among them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

from bench.growth.bulk import LABEL, ONLY, Way, finish, way_into
from bench.growth.found import Found, Size
from bench.measure import Tell
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.recovery import Recovery
from runyard.engine.run import Run
from runyard.engine.store.embedded import EmbeddedServer

#: Of each look so many are made; the quickest says what the work takes, the others what else the machine did.
LOOKS = 5
#: No more looks once they have taken so long together.
PATIENCE_MS = 1_500.0
#: A look is flat when it sends and causes no more than so many times the commands it does among the fewest. Counts,
#: because a millisecond more says little on a machine that does something else.
FLAT = 1.5


def measure(size: Size, tell: Tell) -> Found:
    found = Found(
        conditions=[
            (
                "Runs made by the engine's scripts that record, claim and end one, each on a thread of its own, "
                "without checkpoints and records; one in a hundred a dead letter. The engine is in this "
                "process, without HTTP."
            ),
            f"Each look {LOOKS} times (fewer of what takes seconds), the quickest counts.",
            "A million: extrapolated from bytes for each run.",
        ]
    )
    with EmbeddedServer(appendfsync="everysec") as server:
        way, client = way_into(server.url), redis.Redis.from_url(server.url)
        try:
            _grow(found, way, client, size, tell)
        finally:
            way.close()
            client.close()
    _judge(found, size)
    return found


def _grow(found: Found, way: Way, client: redis.Redis, size: Size, tell: Tell) -> None:
    empty, have = _used(client), 0
    for kept in size.kept:
        tell(f"{kept} finished runs kept")
        began = time.monotonic()
        last = finish(way, kept - have, since=have)
        made_s, have = (kept - have) / (time.monotonic() - began), kept
        bytes_per_run = (_used(client) - empty) / kept
        looks = {name: _quickest(client, look) for name, look in _looks(way, last).items()}
        point = {f"{name}_ms": ms for name, (ms, _) in looks.items()}
        calls = {f"{name}_commands": many for name, (_, many) in looks.items()}
        found.point("kept", kept, {"bytes_per_run": bytes_per_run, "made_s": made_s, **point, **calls})


def _looks(way: Way, run: Run) -> dict[str, Callable[[], Any]]:
    recovery = Recovery(way.store, way.keys, way.service.saver, way.service.settings, "bench", lambda _: None, _empty)

    def list_runs() -> None:
        assert [each.run_id for each in way.service.list_runs(run.thread_id)] == [run.run_id]

    def search() -> None:
        assert len(way.service.search_threads(limit=10)[0]) == 10

    def rare() -> None:
        assert way.service.search_threads(metadata=LABEL, limit=10)[0]

    def only() -> None:
        assert len(way.service.search_threads(metadata=ONLY, limit=10)[0]) == 1

    def sweep() -> None:
        recovery.sweep()
        assert recovery.leads

    return {
        "get": lambda: way.service.get_run(run.run_id), "list_runs": list_runs, "search": search, "rare": rare,
        "only": only, "dead": lambda: DeadLetters(way.service).search(limit=20), "counts": way.service.store_counts,
        "sweep": sweep,
    }  # fmt: skip


def _empty(_: str) -> int:
    return 0


def _quickest(client: redis.Redis, look: Callable[[], Any]) -> tuple[float, int]:
    """Ms of the quickest look, and the commands of one, those inside scripts too."""
    took: list[float] = []
    while len(took) < LOOKS and sum(took) < PATIENCE_MS:
        client.config_resetstat()
        began = time.perf_counter()
        look()
        took.append((time.perf_counter() - began) * 1000)
    return min(took), sum(int(stats["calls"]) for stats in client.info("commandstats").values())


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _judge(found: Found, size: Size) -> None:
    points = found.curves["kept"]
    first, last = points[0], points[-1]
    title = f"among {size.kept[-1]:,} kept runs"
    for name, what in (
        ("get", "one run"), ("list_runs", "runs of a thread"), ("search", "newest threads"),
        ("sweep", "recovery's sweep"),        ("counts", "counts of the store"), ("dead", "dead letters"),
        ("rare", "a label of one in a thousand"), ("only", "a label of one thread"),
    ):  # fmt: skip
        few, many = first[f"{name}_commands"], last[f"{name}_commands"]
        found.add(f"kept_{name}_ms", f"{what} {title}", last[f"{name}_ms"], "ms", count=LOOKS)
        found.add(
            f"kept_{name}_growth",
            f"  its commands, to those among {size.kept[0]:,}",
            many / few,
            "x",
            count=LOOKS,
            goal=FLAT,
        )
    growth = last["bytes_per_run"] / first["bytes_per_run"]
    found.add("kept_bytes", f"bytes for a run {title}", last["bytes_per_run"], "bytes", count=int(last["x"]))
    found.add(
        "kept_bytes_growth", f"  the same, to that among {size.kept[0]:,}", growth, "x", count=int(last["x"]), goal=1.1
    )
    found.add("kept_million_gb", "a million such runs", last["bytes_per_run"] * 1e6 / 2**30, "GB", count=int(last["x"]))
