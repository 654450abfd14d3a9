"""LangGraph's long-term store on plain Redis: what nodes get as ``runtime.store``, and what ``/store`` serves."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import orjson
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from runyard.engine import item_ranking, item_steps
from runyard.engine.errors import InvalidInput, Unserializable
from runyard.engine.item_filter import check
from runyard.engine.item_index import Embedded, Index, asked_of
from runyard.engine.item_steps import Steps, T, together
from runyard.engine.store import items
from runyard.engine.store.client import AsyncStore, Call, SyncStore
from runyard.engine.store.keys import Keys

MAX_LABELS, MAX_NAME_BYTES, MAX_VALUE_BYTES = 32, 4096, 16 * 1024 * 1024
#: A hundred years: what Redis can count in milliseconds, and no mistake in units.
MAX_TTL_MIN = 100 * 366 * 1440


class RedisItems(BaseStore):
    """One for each process. ``batch`` serves threads; ``abatch`` the event loop it was made on, and any other through
    a thread.

    In one batch reads come before writes, and of two writes of one item the last counts, as in LangGraph's
    InMemoryStore. A write is durable as Redis is. **Not** atomic across the items of a batch, and a node that is run
    again writes again: make keys that say what is written. With an ``index`` all texts of a batch are embedded before
    anything is written: when that fails (EmbeddingFailed), nothing is.
    """

    supports_ttl = True

    def __init__(
        self,
        keys: Keys,
        *,
        sync_store: SyncStore,
        store: AsyncStore | None = None,
        ttl: TTLConfig | None = None,
        index: Index | None = None,
    ) -> None:
        self._keys, self._sync_store, self._store = keys, sync_store, store
        self._loop = asyncio.get_running_loop() if store is not None else None
        self.ttl_config = ttl
        self._index = index

    def of_tenant(self, tenant: str) -> RedisItems:
        """The same store with a tenant's items and no others."""
        if tenant == self._keys.tenant:
            return self
        twin = copy.copy(self)
        vars(twin)["_keys"] = self._keys.of_tenant(tenant)
        return twin

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        listed = _checked(ops)
        puts = _last_puts(listed)
        embedded = self._index.embed(asked_of(listed), puts) if self._index else Embedded()
        results = self._take(together([self._reading(op, embedded) for op in listed]))
        if puts:
            self._sync_store.do_all(self._writing(puts, embedded))
        return cast(list[Result], results)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        if self._store is None or self._loop is not asyncio.get_running_loop():
            return await asyncio.to_thread(self.batch, list(ops))
        listed = _checked(ops)
        puts = _last_puts(listed)
        embedded = await self._index.aembed(asked_of(listed), puts) if self._index else Embedded()
        steps = together([self._reading(op, embedded) for op in listed])
        # comparing thousands of vectors takes a while, and the loop keeps the leases of all runs
        found = await (asyncio.to_thread(self._take, steps) if embedded.queries else self._atake(self._store, steps))
        if puts:
            await self._store.do_all(self._writing(puts, embedded))
        return cast(list[Result], found)

    def _take(self, steps: Steps[T]) -> T:
        replies: Any = None
        while True:
            try:
                calls = steps.send(replies)
            except StopIteration as end:
                return cast(T, end.value)
            replies = self._sync_store.do_all(calls)

    async def _atake(self, store: AsyncStore, steps: Steps[T]) -> T:
        replies: Any = None
        while True:
            try:
                calls = steps.send(replies)
            except StopIteration as end:
                return cast(T, end.value)
            replies = await store.do_all(calls)

    def _reading(self, op: Op, embedded: Embedded) -> Steps[Any]:
        match op:
            case GetOp():
                return item_steps.get(self._keys, op)
            case SearchOp(query=query) if self._index and query:
                return item_ranking.search(self._keys, op, self._index, embedded.queries[query])
            case SearchOp():
                return item_steps.search(self._keys, op)
            case ListNamespacesOp():
                return item_steps.list_namespaces(self._keys, op)
        return item_steps.nothing()

    def _writing(self, puts: list[PutOp], embedded: Embedded) -> list[Call[Any]]:
        return [call for op in puts for call in self._write(op, embedded.items.get((op.namespace, op.key), b""))]

    def _write(self, op: PutOp, vectors: bytes) -> list[Call[Any]]:
        if op.value is None:
            return [items.delete(self._keys, op.namespace, op.key)]
        ttl_ms = max(1, round(op.ttl * 60_000)) if op.ttl is not None else 0
        put = items.put(self._keys, op.namespace, op.key, _json(op.value), ttl_ms=ttl_ms, vectors=vectors)
        # who writes what expires also clears what has expired: nobody else need ever look
        return [put, items.sweep(self._keys.of_namespace(op.namespace))] if ttl_ms else [put]


def ttl_of(section: Mapping[str, Any]) -> TTLConfig | None:
    """What the section ``store`` of ``langgraph.json`` says about times to live."""
    said = section.get("ttl")
    if not isinstance(said, dict):
        return None
    known = {key: said[key] for key in ("refresh_on_read", "default_ttl") if said.get(key) is not None}
    return cast(TTLConfig, known)


def _checked(ops: Iterable[Op]) -> list[Op]:
    listed = list(ops)
    for op in listed:
        _check(op)
    return listed


def _last_puts(ops: Iterable[Op]) -> list[PutOp]:
    """Of several writes of one item the last."""
    return list({(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}.values())


def _check(op: Op) -> None:
    """Raises InvalidNamespaceError, InvalidInput, and ValueError for an operation or an operator nobody knows."""
    if not isinstance(op, (GetOp, PutOp, SearchOp, ListNamespacesOp)):
        raise ValueError(f"Unknown operation type: {type(op)}")  # noqa: TRY004 - as LangGraph's own stores say it
    validate_op_namespace(op)
    if isinstance(op, SearchOp):
        check(op.filter)
    if isinstance(op, (SearchOp, ListNamespacesOp)) and (op.limit < 0 or op.offset < 0):
        raise InvalidInput("limit and offset: must be 0 or more.")
    if isinstance(op, PutOp):
        _check_name(op.namespace, op.key)
        if op.ttl is not None and not 0 < op.ttl <= MAX_TTL_MIN:
            raise InvalidInput(f"ttl: must be a number of minutes above 0, at most {MAX_TTL_MIN}, not {op.ttl!r}.")


def _check_name(namespace: Sequence[str], key: str) -> None:
    if len(namespace) > MAX_LABELS:
        raise InvalidNamespaceError(f"A namespace has at most {MAX_LABELS} labels, not {len(namespace)}.")
    if len(items.name_of(tuple(namespace), key).encode()) > MAX_NAME_BYTES:
        raise InvalidInput(f"namespace and key: at most {MAX_NAME_BYTES} bytes together.")


def _json(value: Any) -> bytes:
    """A value as JSON. What JSON has no word for is refused: an item must come back as it was given."""
    try:
        text = orjson.dumps(value)
    except TypeError as error:
        raise Unserializable(f"An item's value must be JSON: {error}") from error
    if len(text) > MAX_VALUE_BYTES:
        raise InvalidInput(f"value: at most {MAX_VALUE_BYTES} bytes of JSON, not {len(text)}.")
    return text
