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

from runyard.engine import item_steps
from runyard.engine.errors import InvalidInput, Unserializable
from runyard.engine.item_filter import check
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
    again writes again: make keys that say what is written.
    """

    supports_ttl = True

    def __init__(
        self, keys: Keys, *, sync_store: SyncStore, store: AsyncStore | None = None, ttl: TTLConfig | None = None
    ) -> None:
        self._keys, self._sync_store, self._store = keys, sync_store, store
        self._loop = asyncio.get_running_loop() if store is not None else None
        self.ttl_config = ttl

    def of_tenant(self, tenant: str) -> RedisItems:
        """The same store with a tenant's items and no others."""
        if tenant == self._keys.tenant:
            return self
        twin = copy.copy(self)
        vars(twin)["_keys"] = self._keys.of_tenant(tenant)
        return twin

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        reads, writes = self._steps(ops)
        results = self._take(together(reads))
        if writes:
            self._sync_store.do_all(writes)
        return cast(list[Result], results)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        if self._store is None or self._loop is not asyncio.get_running_loop():
            return await asyncio.to_thread(self.batch, list(ops))
        reads, writes = self._steps(ops)
        results = await self._atake(self._store, together(reads))
        if writes:
            await self._store.do_all(writes)
        return cast(list[Result], results)

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

    def _steps(self, ops: Iterable[Op]) -> tuple[list[Steps[Any]], list[Call[Any]]]:
        """What is read, one for each operation, and what is then written."""
        listed = list(ops)
        for op in listed:
            _check(op)
        puts = {(op.namespace, op.key): op for op in listed if isinstance(op, PutOp)}
        return [self._reading(op) for op in listed], [call for op in puts.values() for call in self._writing(op)]

    def _reading(self, op: Op) -> Steps[Any]:
        match op:
            case GetOp():
                return item_steps.get(self._keys, op)
            case SearchOp():
                return item_steps.search(self._keys, op)
            case ListNamespacesOp():
                return item_steps.list_namespaces(self._keys, op)
        return item_steps.nothing()

    def _writing(self, op: PutOp) -> list[Call[Any]]:
        if op.value is None:
            return [items.delete(self._keys, op.namespace, op.key)]
        ttl_ms = max(1, round(op.ttl * 60_000)) if op.ttl is not None else 0
        put = items.put(self._keys, op.namespace, op.key, _json(op.value), ttl_ms=ttl_ms)
        # who writes what expires also clears what has expired: nobody else need ever look
        return [put, items.sweep(self._keys.of_namespace(op.namespace))] if ttl_ms else [put]


def ttl_of(section: Mapping[str, Any]) -> TTLConfig | None:
    """What the section ``store`` of ``langgraph.json`` says about times to live."""
    said = section.get("ttl")
    if not isinstance(said, dict):
        return None
    known = {key: said[key] for key in ("refresh_on_read", "default_ttl") if said.get(key) is not None}
    return cast(TTLConfig, known)


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
