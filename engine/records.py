"""Reading a run's ledger: pages, a filter, and staying with it as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from runyard.engine.record import About, as_told
from runyard.engine.run import Run
from runyard.engine.store import records as calls
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys

Json = dict[str, Any]
START = calls.START
#: So many are read in one round trip.
BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records are meant; what is None is not asked. ``node`` is also that of a graph around the node."""

    kind: str | None = None
    node: str | None = None
    status: str | None = None

    def takes(self, record: Json) -> bool:
        node = record.get("node") or ""
        return (
            (self.kind is None or record["kind"] == self.kind)
            and (self.status is None or record["status"] == self.status)
            and (self.node is None or node == self.node or node.startswith(f"{self.node}/"))
        )


def read(
    store: SyncStore, keys: Keys, run: Run, wanted: Filter | None = None, *, after: str = START, limit: int = 0
) -> Iterator[Json]:
    """The records of a run that match, oldest first, read in batches as the iterator is; 0: however many."""
    found = _read(store, keys, run, wanted or Filter(), after)
    return islice(found, limit) if limit else found


def _read(store: SyncStore, keys: Keys, run: Run, wanted: Filter, after: str) -> Iterator[Json]:
    about = About.of(run)
    while True:
        batch = store.do(calls.read(keys, run.run_id, after, count=BATCH))
        yield from (as_told(about, entry) for entry in batch if wanted.takes(entry[1]))
        if len(batch) < BATCH:
            return
        after = batch[-1][0]


def page(
    store: SyncStore, keys: Keys, run: Run, wanted: Filter | None = None, *, after: str = START, limit: int = 100
) -> tuple[list[Json], str | None]:
    """At most ``limit`` records after an id, and the id to go on after, or None when there are no more for now."""
    found: list[Json] = []
    for record in read(store, keys, run, wanted, after=after):
        if len(found) == limit:
            return found, found[-1]["id"]
        found.append(record)
    return found, None
