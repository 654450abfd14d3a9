"""What each operation of LangGraph's ``BaseStore`` asks of Redis, as steps.

A step is calls that go out together; what follows depends on their answers. Steps know no connection, so threads and
event loops take the same ones (:mod:`runyard.engine.items`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from langgraph.store.base import GetOp, Item, ListNamespacesOp, MatchCondition, SearchItem, SearchOp

from runyard.engine.item_filter import matches
from runyard.engine.store import items
from runyard.engine.store.client import Call
from runyard.engine.store.items import Namespace, StoredItem
from runyard.engine.store.keys import Keys, Partition

T = TypeVar("T")
Steps = Generator[list[Call[Any]], list[Any], T]

#: Names are read so many at a time, items so many, namespaces of a search so many.
NAMES, ITEMS, SPACES = 5000, 500, 50


def together(parts: Sequence[Steps[Any]]) -> Steps[list[Any]]:
    """Take several operations forward side by side: their calls of one step share a round trip."""
    results: list[Any] = [None] * len(parts)
    asked: dict[int, list[Call[Any]]] = {}

    def advance(number: int, replies: list[Any] | None) -> None:
        try:
            asked[number] = parts[number].send(replies)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            results[number] = end.value

    for number in range(len(parts)):
        advance(number, None)
    while asked:
        now, asked = asked, {}
        replies = iter((yield [call for calls in now.values() for call in calls]))
        for number, calls in now.items():
            advance(number, [next(replies) for _ in calls])
    return results


def nothing() -> Steps[None]:
    """Of a write there is nothing to read."""
    yield from ()


def get(keys: Keys, op: GetOp) -> Steps[Item | None]:
    [found] = yield [items.get(keys, op.namespace, op.key, refresh=op.refresh_ttl)]
    return Item(**shown(found)) if found else None


def search(keys: Keys, op: SearchOp) -> Steps[list[SearchItem]]:
    """Items under a prefix: namespaces by their labels, items of one in the order of their making.

    Not a snapshot: what is written meanwhile may be in the answer or not. ``query`` is for who has an embedding
    (:mod:`runyard.engine.item_ranking`), and ignored here, as LangGraph's InMemoryStore does.
    """
    wanted = op.offset + op.limit
    spaces = yield from namespaces_under(keys, op.namespace_prefix)
    found: list[StoredItem] = []
    for start in range(0, len(spaces), SPACES):
        some = spaces[start : start + SPACES]
        entries = yield from entries_of(keys, some, most=None if op.filter else wanted - len(found))
        found += yield from _matching(keys, op, entries, most=wanted - len(found))
        if len(found) >= wanted:
            break
    page = found[op.offset : wanted]
    if op.refresh_ttl:
        yield [items.get(keys, item.namespace, item.key, refresh=True) for item in page if item.ttl_ms]
    return [SearchItem(**shown(item)) for item in page]


def list_namespaces(keys: Keys, op: ListNamespacesOp) -> Steps[list[Namespace]]:
    """Namespaces that have items, by their labels."""
    conditions = op.match_conditions or ()
    spaces = yield from namespaces_under(keys, _literal_head(conditions))
    found = [space for space in spaces if all(_fits(condition, space) for condition in conditions)]
    if op.max_depth is not None:
        found = sorted({space[: op.max_depth] for space in found})
    return found[op.offset : op.offset + op.limit]


def namespaces_under(keys: Keys, prefix: Namespace) -> Steps[list[Namespace]]:
    """All namespaces under a prefix, sorted; expired items are swept before."""
    partitions = [keys.of_namespace(prefix)] if prefix else keys.all()
    lists = yield from together([_in_partition(at, prefix) for at in partitions])
    return sorted(space for found in lists for space in found)


def _in_partition(at: Partition, prefix: Namespace) -> Steps[list[Namespace]]:
    swept = items.SWEEP
    while swept == items.SWEEP:
        [swept, page] = yield [items.sweep(at), items.namespaces(at, prefix, after=None, limit=NAMES)]
    found = list(page)
    while len(page) == NAMES:
        [page] = yield [items.namespaces(at, prefix, after=found[-1], limit=NAMES)]
        found += page
    return found


def entries_of(keys: Keys, spaces: list[Namespace], *, most: int | None) -> Steps[list[tuple[Namespace, str]]]:
    """(namespace, key) of the items of some namespaces, no more than ``most``."""
    count = NAMES if most is None else max(1, min(NAMES, most))
    pages = yield [items.keys_of(keys, space, start=0, count=count) for space in spaces]
    entries: list[tuple[Namespace, str]] = []
    for space, first in zip(spaces, pages, strict=True):
        page, start = first, 0
        entries += [(space, key) for key in page]
        while len(page) == count and (most is None or len(entries) < most):
            start += count
            [page] = yield [items.keys_of(keys, space, start=start, count=count)]
            entries += [(space, key) for key in page]
    return entries[:most]


def _matching(keys: Keys, op: SearchOp, entries: list[tuple[Namespace, str]], *, most: int) -> Steps[list[StoredItem]]:
    found: list[StoredItem] = []
    for start in range(0, len(entries), ITEMS):
        read = yield [items.get(keys, *entry, refresh=False) for entry in entries[start : start + ITEMS]]
        found += [item for item in read if item is not None and matches(item.value, op.filter)]
        if len(found) >= most:
            break
    return found


def _literal_head(conditions: Sequence[MatchCondition]) -> Namespace:
    """What all namespaces that fit begin with: the labels before the first wildcard of a prefix."""
    for condition in conditions:
        if condition.match_type == "prefix":
            path = tuple(condition.path)
            return path[: path.index("*")] if "*" in path else path
    return ()


def _fits(condition: MatchCondition, space: Namespace) -> bool:
    path = tuple(condition.path)
    if len(space) < len(path):
        return False
    end = space[: len(path)] if condition.match_type == "prefix" else space[len(space) - len(path) :]
    return all(wanted in ("*", label) for wanted, label in zip(path, end, strict=True))


def shown(item: StoredItem) -> dict[str, Any]:
    return {
        "namespace": item.namespace,
        "key": item.key,
        "value": item.value,
        "created_at": _instant(item.created_at),
        "updated_at": _instant(item.updated_at),
    }


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
