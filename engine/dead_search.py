"""Dead letters that match what is asked, newest first, read no further than that needs: the first page costs the same
however many are kept, as long as what is asked for is not rare."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from itertools import islice

from runyard.engine.letter import Filter, failed_at, is_parked
from runyard.engine.run import REVIVABLE, Run
from runyard.engine.service import Service
from runyard.engine.store import runs

#: A search looks at no more than this many of a partition's newest dead letters.
DEPTH = 10_000
#: So many records are read in one round trip, at most.
BATCH = 500
#: Ids that are read of a partition at first; each time it is come back to, four times as many as before.
_FIRST = 20

#: When a letter failed, in ms, and its run's id.
_Place = tuple[float, str]


def newest(service: Service, wanted: Filter, *, first: int = BATCH) -> Iterator[Run]:
    """Those that match now, also runs that are parked for an operator. ``first``: how many records are read at first.

    One that fails, or is replayed, while this reads on may be in it or not, but is never in it twice.
    """
    now_ms = time.time() * 1000
    places = heapq.merge(*_of_partitions(service, wanted, now_ms), _parked(service), reverse=True)
    size, seen = min(max(first, 1), BATCH), set[str]()
    while some := list(islice(places, size)):
        ids = [run_id for run_id in dict.fromkeys(run_id for _, run_id in some) if run_id not in seen]
        seen.update(ids)
        for run in service.store.do_all([runs.get(service.keys, run_id) for run_id in ids]):
            if run and _is_letter(run) and wanted.takes(run, now_ms) and service.sees(run):
                yield run
        size = BATCH


def how_many(service: Service, wanted: Filter) -> int | None:
    """How many match, if the indexes say so without a record being read, but for those that are parked: of all, or of
    a tenant's of an age. None: they do not."""
    asks_more = (wanted.graph_id, wanted.node, wanted.fingerprint, wanted.graph_fingerprint) != (None,) * 4
    if asks_more or service.visible is not None or (service.tenant is None and _has_age(wanted)):
        return None
    now_ms = time.time() * 1000
    lowest, highest = _bounds(wanted, now_ms)
    numbers = range(service.keys.partitions)
    counts = [runs.count_dead(service.keys, number, service.tenant, lowest, highest) for number in numbers]
    found = service.store.do_all([runs.get(service.keys, run_id) for _, run_id in _parked(service)])
    parked = [run for run in found if run and is_parked(run) and wanted.takes(run, now_ms) and service.sees(run)]
    ended: list[int] = service.store.do_all(counts)
    return sum(ended) + len(parked)


def _is_letter(run: Run) -> bool:
    return run.phase in REVIVABLE or is_parked(run)


def _has_age(wanted: Filter) -> bool:
    return wanted.older_than_s is not None or wanted.younger_than_s is not None


def _bounds(wanted: Filter, now_ms: float) -> tuple[str, str]:
    """The scores between which letters of the age are, as the store takes them."""
    younger, older = wanted.younger_than_s, wanted.older_than_s
    lowest = "-inf" if younger is None else f"({now_ms - younger * 1000:.3f}"
    return lowest, "+inf" if older is None else f"{now_ms - older * 1000:.3f}"


def _parked(service: Service) -> list[_Place]:
    """Runs that wait for an operator, newest first: there is no index of them but that of all that wait for a time."""
    every = service.keys.all()
    batches = service.store.do_all([runs.waiting_for_a_time(service.keys, at.number, limit=DEPTH) for at in every])
    ids = [run_id for batch in batches for run_id in batch]
    places: list[_Place] = []
    for start in range(0, len(ids), BATCH):
        found = service.store.do_all([runs.get(service.keys, run_id) for run_id in ids[start : start + BATCH]])
        places += [(failed_at(run) or 0, run.run_id) for run in found if run and is_parked(run)]
    return sorted(places, reverse=True)


def _of_partitions(service: Service, wanted: Filter, now_ms: float) -> list[Iterator[_Place]]:
    # In the listing of all, what has something to tell yet when its time is over stands later than it failed.
    bounds = ("-inf", "+inf") if service.tenant is None else _bounds(wanted, now_ms)
    numbers = range(service.keys.partitions)
    pages = service.store.do_all(
        [runs.dead(service.keys, number, service.tenant, *bounds, limit=_FIRST) for number in numbers]
    )
    return [_of_partition(service, number, bounds, page) for number, page in zip(numbers, pages, strict=True)]


def _of_partition(service: Service, number: int, bounds: tuple[str, str], page: list[_Place]) -> Iterator[_Place]:
    size, read = _FIRST, 0
    while True:
        yield from page
        read += len(page)
        if len(page) < size or read >= DEPTH:
            return
        size = min(size * 4, DEPTH - read)
        page = service.store.do(runs.dead(service.keys, number, service.tenant, *bounds, limit=size, offset=read))
