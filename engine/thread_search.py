"""Threads that match what is asked, read no further than that needs: a page of the newest costs the same however many
are kept, as long as what is asked for is not rare."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from runyard.engine import wire
from runyard.engine.run import ThreadStatus
from runyard.engine.store import labels, threads
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.threads import Thread

#: A search looks at no more than this many of a partition's newest threads.
SEARCH_DEPTH = 10_000
#: A label that no more threads have is looked up; the newest that have one of more are soon found among all. Of each
#: partition its part.
FEW = 4_000
#: Threads whose records are read in one round trip, at most.
BATCH = 500
#: A first batch as small as this is read at once: most of it may match.
SIFTED_ABOVE = 100
#: Ids that are read of a partition at first; each time it is come back to, four times as many as before.
_FIRST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a thread must have; what is None is not asked. ``sees``: whether whoever asks may see it at all."""

    metadata: Mapping[str, Any] | None = None
    values: Mapping[str, Any] | None = None
    status: ThreadStatus | None = None
    sees: Callable[[Thread], bool] = field(default=lambda _: True)

    @property
    def plain_labels(self) -> dict[str, str | int]:
        """Those of the labels that the store can compare as they are."""
        return {name: value for name, value in (self.metadata or {}).items() if labels.is_plain(value)}

    def takes(self, thread: Thread) -> bool:
        return (
            not thread.hidden
            and self.sees(thread)
            and (self.status is None or thread.status == self.status)
            and contains(thread.metadata, self.metadata or {})
            and (not self.values or contains(wire.decode(thread.values) if thread.values else {}, self.values))
        )


def newest(store: SyncStore, keys: Keys, wanted: Wanted, *, limit: int, offset: int) -> tuple[list[Thread], int]:
    """A page of those that match, last changed first, and how many match: of those after the page only the next is
    counted, and none is read. What changes meanwhile may be missed, and never comes twice.
    """
    ends = offset + limit
    matching = _matching(store, keys, _candidates(store, keys, wanted), wanted, first=ends + 1)
    found = list(islice(matching, ends + 1))
    return found[offset:ends], len(found)


def all_of(store: SyncStore, keys: Keys, ids: Iterable[str] | None, wanted: Wanted) -> list[Thread]:
    """All that match, among ``ids`` or all that there are: every record is read."""
    among = _candidates(store, keys, wanted) if ids is None else iter(ids)
    return list(_matching(store, keys, among, wanted, first=BATCH))


def _candidates(store: SyncStore, keys: Keys, wanted: Wanted) -> Iterator[str]:
    """Ids of the threads that may match, last changed first: those with a label that few have, else all."""
    asked = sorted(set(labels.wanted(wanted.metadata or {}).values()))
    if not asked:
        return newest_ids(store, keys)
    most = FEW // keys.partitions
    finds = [labels.find(keys, number, asked, most=most) for number in range(keys.partitions)]
    are_kept, *pages = store.do_all([labels.are_kept(keys), *finds])
    if not are_kept or None in pages:
        return newest_ids(store, keys)
    return iter([thread_id for _, thread_id in sorted((place for page in pages for place in page), reverse=True)])


def newest_ids(store: SyncStore, keys: Keys) -> Iterator[str]:
    """Ids of the threads of the keys' tenant, last changed first; of each partition no more than SEARCH_DEPTH."""
    partitions = range(keys.partitions)
    first = store.do_all([threads.newest(keys, number, limit=_FIRST) for number in partitions])
    read = [_of_partition(store, keys, number, page) for number, page in zip(partitions, first, strict=True)]
    seen: set[str] = set()
    for _, thread_id in heapq.merge(*read, reverse=True):
        if thread_id not in seen:  # one that changed while this read on is in two of its pages
            seen.add(thread_id)
            yield thread_id


def _of_partition(store: SyncStore, keys: Keys, number: int, page: threads.Page) -> Iterator[tuple[float, str]]:
    size, read = _FIRST, 0
    while True:
        yield from ((changed_ms, thread_id) for thread_id, changed_ms in page)
        read += len(page)
        if len(page) < size or read >= SEARCH_DEPTH:
            return
        size = min(size * 4, SEARCH_DEPTH - read)
        page = store.do(threads.newest(keys, number, limit=size, offset=read))


def _matching(
    store: SyncStore, keys: Keys, ids: Iterator[str], wanted: Wanted, *, first: int
) -> Iterator[Thread]:  # fmt: skip
    """Those that match, in the order of ``ids``. ``first``: how many records are read before more than that are."""
    size, plain = min(first, BATCH), wanted.plain_labels
    while some := list(islice(ids, size)):
        read = _sifted(store, keys, some, plain) if plain and size > SIFTED_ABOVE else some
        yield from filter(wanted.takes, _records(store, keys, read))
        size = BATCH


def _sifted(store: SyncStore, keys: Keys, ids: Sequence[str], plain: Mapping[str, str | int]) -> list[str]:
    by_partition: dict[int, list[str]] = defaultdict(list)
    for thread_id in ids:
        by_partition[keys.of_thread(thread_id).number].append(thread_id)
    calls = [threads.sift(keys, number, some, plain) for number, some in by_partition.items()]
    left = {thread_id for batch in store.do_all(calls) for thread_id in batch}
    return [thread_id for thread_id in ids if thread_id in left]


def _records(store: SyncStore, keys: Keys, ids: Sequence[str]) -> Iterator[Thread]:
    if not ids:
        return
    replies = store.do_all([call for thread_id in ids for call in threads.get(keys, thread_id)])
    for fields, queued in zip(replies[::2], replies[1::2], strict=True):
        if (thread := threads.from_replies(fields, queued)) is not None:
            yield thread


def contains(whole: Any, part: Any) -> bool:
    """Whether ``whole`` holds ``part``: dicts by their keys, lists by their elements, all else by equality."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(item, wanted) for item in whole) for wanted in part)
    return bool(whole == part)
