"""Many finished runs in little time: the engine's own scripts that record, claim and end a run, many at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from runyard.engine import wire
from runyard.engine.ids import new_run_id, new_thread_id
from runyard.engine.run import Phase, Run, RunRequest
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store import runs
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import open_store

#: Runs in one round trip.
BATCH = 200
#: Every so many-th run failed for good, and every so many-th has a label that is searched for; the first, one alone.
EVERY_DEAD, EVERY_LABELLED = 100, 1000
LABEL = {"kind": "rare"}
ONLY = {"first": "of all"}
VALUES = wire.encode({"log": [f"n{i}" for i in range(10)]})


@dataclass(frozen=True, slots=True)
class Way:
    """Into a store, past the web; it wakes nobody."""

    service: Service

    @property
    def store(self) -> SyncStore:
        return self.service.store

    @property
    def keys(self) -> Keys:
        return self.service.keys

    def close(self) -> None:
        self.store.close()


def way_into(redis_url: str) -> Way:
    settings = Settings.from_env({"REDIS_URL": redis_url})
    store = SyncStore.connect(settings.redis_url, timeout_s=60.0)
    return Way(Service(store, open_store(store, Keys(settings.prefix, settings.partitions)), settings, lambda _: None))


def finish(way: Way, count: int, *, since: int = 0) -> Run:
    """Make ``count`` runs that have ended, each on a thread of its own, numbered from ``since``; answers the last.

    They have no checkpoints, records or events but their last: what is listed, searched and swept is all there.
    """
    made: list[Run] = []
    for start in range(since, since + count, BATCH):
        numbers = range(start, min(start + BATCH, since + count))
        made = [_record(way, number) for number in numbers]
        way.store.do_all([call for number, run in zip(numbers, made, strict=True) for call in _life(way, number, run)])
    return made[-1]


def _record(way: Way, number: int) -> Run:
    thread_id = new_thread_id()
    run_id = new_run_id(way.keys.of_thread(thread_id).number)
    return Run(
        run_id=run_id, thread_id=thread_id, assistant_id="chain10a", graph_id="chain10a", phase=Phase.WAITING,
        queue="default", strategy="enqueue", created_at=0, updated_at=0, request=RunRequest(input={"log": []}),
        metadata={"number": number},
    )  # fmt: skip


def _life(way: Way, number: int, run: Run) -> Iterator[Call[Any]]:
    labels = {**(LABEL if number % EVERY_LABELLED == 0 else {}), **(ONLY if number == 0 else {})}
    yield runs.create(way.keys, run, create_thread=True, thread_metadata=labels)
    # The answer would be a whole record: here it is known that the token of a first claim is 1.
    claim = runs.claim(way.keys, run.run_id, owner="bench", nonce=f"n{number}", lease_ms=60_000)
    yield replace(claim, parse=bool)
    fence = Fence(way.keys.of_run(run.run_id).run(run.run_id), "lease", "1")
    if number % EVERY_DEAD == EVERY_DEAD - 1:
        error = {"error": "ValueError", "message": "made to fail"}
        report = wire.encode({"__error__": error})
        yield _end(way, run, fence, Phase.FAILED, error=error, report=report)
    else:
        yield _end(way, run, fence, Phase.SUCCEEDED, values=VALUES, report=VALUES)


def _end(way: Way, run: Run, fence: Fence, phase: Phase, **how: Any) -> Call[Any]:
    ttl_ms = way.service.settings.keep_events_s * 1000
    return runs.end(way.keys, run, fence, phase, events_ttl_ms=ttl_ms, **how)
