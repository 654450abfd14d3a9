"""Listing checkpoints, newest first, a page at a time, reading no more than is asked for."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_id
from langgraph.checkpoint.serde.base import SerializerProtocol

from runyard.engine.store import checkpoint_calls as calls
from runyard.engine.store.checkpoint_calls import Place, place_of
from runyard.engine.store.checkpoints import decode_listed
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import Plan
from runyard.engine.store.serde import decode

#: Checkpoints read in one round trip.
PAGE = 20
#: Checkpoints whose metadata is looked at in one round trip, when a filter is given.
FILTERED_PAGE = 200


class Listing:
    """One walk through the checkpoints that a ``list`` asks for.

    Namespaces one after the other, the root first. What is put behind the cursor while the walk is under way is
    not seen.
    """

    def __init__(
        self,
        keys: Keys,
        serde: SerializerProtocol,
        config: RunnableConfig | None,
        *,
        metadata: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        self._keys = keys
        self._serde = serde
        self._config = config
        self._filter = metadata
        self._span = _span(get_checkpoint_id(config) if config else None, get_checkpoint_id(before) if before else None)
        self._left = limit
        self._cursor = self._span[0]
        self._places: list[Place] | None = None

    def next_page(self) -> Plan[list[CheckpointTuple] | None]:
        """The next checkpoints (perhaps none of this page matched the filter), or None at the end."""
        if self._places is None:
            self._places = yield from _places(self._keys, self._config)
        if not self._places or (self._left is not None and self._left <= 0):
            return None
        place, size = self._places[0], self._page_size()
        [ids] = yield [calls.checkpoint_ids(place, self._cursor, self._span[1], size)]
        self._advance(ids, size)
        if self._filter and ids:
            ids = yield from self._matching(place, ids)
        return (yield from self._read(place, ids))

    def _page_size(self) -> int:
        return FILTERED_PAGE if self._filter else min(PAGE, self._left or PAGE)

    def _advance(self, ids: list[str], size: int) -> None:
        if len(ids) == size:
            self._cursor = f"({ids[-1]}"
        elif self._places:
            self._places.pop(0)
            self._cursor = self._span[0]

    def _matching(self, place: Place, ids: list[str]) -> Plan[list[str]]:
        stored = yield [calls.metadata(place, checkpoint_id) for checkpoint_id in ids]
        return [id_ for id_, data in zip(ids, stored, strict=True) if data and self._matches(decode(self._serde, data))]

    def _matches(self, metadata: dict[str, Any]) -> bool:
        return all(metadata.get(key) == value for key, value in (self._filter or {}).items())

    def _read(self, place: Place, ids: list[str]) -> Plan[list[CheckpointTuple]]:
        ids = ids[: self._left]
        page: list[CheckpointTuple] = []
        for start in range(0, len(ids), PAGE):
            some = ids[start : start + PAGE]
            [reply] = yield [calls.read_checkpoints(place, some)]
            page.extend(decode_listed(self._serde, place, some, reply))
        if self._left is not None:
            self._left -= len(page)
        return page


def _span(checkpoint_id: str | None, before_id: str | None) -> tuple[str, str]:
    """Highest and lowest id, as ZREVRANGEBYLEX wants them. An empty span when the two contradict each other."""
    if checkpoint_id is None:
        return (f"({before_id}" if before_id else "+"), "-"
    wanted = f"[{checkpoint_id}"
    return (wanted if before_id is None or checkpoint_id < before_id else f"({checkpoint_id}"), wanted


def _places(keys: Keys, config: RunnableConfig | None) -> Plan[list[Place]]:
    """The namespaces that ``config`` means: the one it names, all of its thread, or all of all threads."""
    if config is None:
        threads = yield from _all_threads(keys)
    else:
        thread_id, namespace = config["configurable"]["thread_id"], config["configurable"].get("checkpoint_ns")
        if namespace is not None:
            return [place_of(keys, thread_id, namespace)]
        threads = [thread_id]
    places: list[Place] = []
    for thread_id in threads:
        [names] = yield [calls.namespaces(place_of(keys, thread_id, ""))]
        places.extend(place_of(keys, thread_id, name) for name in names)
    return places


def _all_threads(keys: Keys) -> Plan[list[str]]:
    found: set[str] = set()
    cursor = 0
    while True:
        [(cursor, threads)] = yield [calls.scan_threads(keys, cursor)]
        found.update(threads)
        if cursor == 0:
            return sorted(found)
