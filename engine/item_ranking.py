"""Searching the long-term store by meaning, as steps like those of :mod:`runyard.engine.item_steps`.

Every item below the prefix is compared with the question: exact, and as long as there are items. So there is a bound.
"""

from __future__ import annotations

import heapq
from operator import itemgetter
from typing import Any

from langgraph.store.base import SearchItem, SearchOp

from runyard.engine.errors import InvalidInput
from runyard.engine.item_filter import matches
from runyard.engine.item_index import Index
from runyard.engine.item_steps import SPACES, Steps, entries_of, namespaces_under, shown
from runyard.engine.store import items
from runyard.engine.store.items import Namespace
from runyard.engine.store.keys import Keys

#: Items that one search reads at most, those that its filter leaves out among them.
MAX_COMPARED = 50_000
#: Vectors are read so many at a time: 3 MB of 1 536 dimensions.
PAGE = 500

Entry = tuple[Namespace, str]
Ranked = tuple[float, Entry]


def search(keys: Keys, op: SearchOp, index: Index, query: Any) -> Steps[list[SearchItem]]:
    """The nearest items, the nearest first; behind them those without vectors, which have no score.

    Not a snapshot. Raises InvalidInput when more than ``MAX_COMPARED`` items are below the prefix.
    """
    wanted = op.offset + op.limit
    best: list[Ranked] = []
    others: list[Entry] = []
    entries = yield from _below(keys, op.namespace_prefix)
    for start in range(0, len(entries), PAGE):
        page = entries[start : start + PAGE]
        read = yield [items.vectors(keys, *entry, value=bool(op.filter)) for entry in page]
        near = []
        for entry, item in zip(page, read, strict=True):
            if item is None or not matches(item.value, op.filter):
                continue
            score = index.score(query, item.vectors)
            if score is not None:
                near.append((score, entry))
            elif len(others) < wanted:
                others.append(entry)
        best = heapq.nlargest(wanted, best + near, key=itemgetter(0))
    scored: list[tuple[float | None, Entry]] = [*best, *((None, entry) for entry in others)]
    return (yield from _read(keys, scored[op.offset : wanted], refresh=op.refresh_ttl))


def _below(keys: Keys, prefix: Namespace) -> Steps[list[Entry]]:
    spaces = yield from namespaces_under(keys, prefix)
    entries: list[Entry] = []
    for start in range(0, len(spaces), SPACES):
        most = MAX_COMPARED + 1 - len(entries)
        entries += yield from entries_of(keys, spaces[start : start + SPACES], most=most)
        if len(entries) > MAX_COMPARED:
            raise InvalidInput(
                f"query: more than {MAX_COMPARED} items are below this namespace_prefix, too many to compare: name a "
                "longer one."
            )
    return entries


def _read(keys: Keys, page: list[tuple[float | None, Entry]], *, refresh: bool) -> Steps[list[SearchItem]]:
    read = yield [items.get(keys, *entry, refresh=refresh) for _, entry in page]
    found = zip(page, read, strict=True)
    return [SearchItem(**shown(item), score=score) for (score, _), item in found if item is not None]
