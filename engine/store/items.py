"""Items of the long-term store (LangGraph's ``BaseStore``): the typed functions for their scripts.

All items under one first label live in one partition. A namespace is written as its labels joined by NUL, which no
label may hold: then a prefix of labels is a range of text, and text sorts as the labels do.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from runyard.engine import wire
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys, Partition
from runyard.engine.store.scripts import script

Namespace = tuple[str, ...]
#: As many expired items are removed by one script.
SWEEP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredItem:
    """An item as the store holds it. Instants are ms since the epoch on the store's clock."""

    namespace: Namespace
    key: str
    value: dict[str, Any]
    created_at: int
    updated_at: int
    #: How long it lives after it was last written, or read with refreshing; 0: for ever.
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What an item means, as :mod:`runyard.engine.item_index` writes it; None when nothing of it was embedded."""

    vectors: bytes | None
    value: dict[str, Any]


def joined(namespace: Namespace) -> str:
    return "\0".join(namespace)


def split(text: str) -> Namespace:
    return tuple(text.split("\0")) if text else ()


def name_of(namespace: Namespace, key: str) -> str:
    """An item's name in its partition. No label is empty, so the first two NULs end the namespace."""
    return f"{joined(namespace)}\0\0{key}"


def put(
    keys: Keys, namespace: Namespace, key: str, value: bytes, *, ttl_ms: int = 0, vectors: bytes = b""
) -> Call[int]:
    """Store an item, with its vectors or without; one that takes another's place keeps its instant of making and its
    place in the order."""
    at, name = keys.of_namespace(namespace), name_of(namespace, key)
    touched = (at.item(name), at.items(joined(namespace)), at.item_namespaces, at.items_expiring)
    owner = owner_of(keys, name)
    kept, means = keys.seal(value, owner), keys.seal(vectors, owner) if vectors else b""
    return Call(script("put_item"), touched, (joined(namespace), key, kept, ttl_ms, name, means), int)


def owner_of(keys: Keys, name: str) -> str:
    """Whose an item's values are: its name may hold anything, and the same name another tenant's."""
    return f"item {hashlib.blake2b(f'{keys.tenant}/{name}'.encode(), digest_size=16).hexdigest()}"


def vectors(keys: Keys, namespace: Namespace, key: str, *, value: bool) -> Call[StoredVectors | None]:
    """An item's vectors, and with ``value`` what a filter asks about; its time to live goes on."""

    def parse(reply: Any) -> StoredVectors | None:
        exists, held, *rest = reply
        if exists is None:
            return None
        return StoredVectors(held, wire.decode(rest[0]) if rest else {})

    fields = ("updated_at", "vectors", *(("value",) if value else ()))
    name = name_of(namespace, key)
    words = ("HMGET", keys.of_namespace(namespace).item(name), *fields)
    return Call(None, (), words, parse, lambda _: (owner_of(keys, name),))


def get(keys: Keys, namespace: Namespace, key: str, *, refresh: bool) -> Call[StoredItem | None]:
    """An item; with ``refresh`` its time to live begins anew."""

    def parse(reply: Any) -> StoredItem | None:
        if reply is None:
            return None
        value, created_at, updated_at, ttl_ms = reply
        return StoredItem(
            namespace=namespace, key=key, value=wire.decode(value),
            created_at=int(created_at), updated_at=int(updated_at), ttl_ms=int(ttl_ms),
        )  # fmt: skip

    at, name = keys.of_namespace(namespace), name_of(namespace, key)
    return Call(script("get_item"), (at.item(name), at.items_expiring), (name, "1" if refresh else "0"), parse,
                lambda _: (owner_of(keys, name),))  # fmt: skip


def delete(keys: Keys, namespace: Namespace, key: str) -> Call[int]:
    at, name = keys.of_namespace(namespace), name_of(namespace, key)
    touched = (at.item(name), at.items(joined(namespace)), at.item_namespaces, at.items_expiring)
    return Call(script("delete_item"), touched, (joined(namespace), key, name), int)


def sweep(at: Partition) -> Call[int]:
    """Remove up to ``SWEEP`` expired items from a partition's lists; answers how many there were."""
    return Call(script("sweep_items"), (at.items_expiring, at.item_namespaces), (SWEEP, at.item(""), at.items("")), int)


def namespaces(at: Partition, prefix: Namespace, *, after: Namespace | None, limit: int) -> Call[list[Namespace]]:
    """A partition's namespaces that begin with ``prefix``, in order, those behind ``after``."""
    head = joined(prefix)
    first = f"({joined(after)}" if after is not None else f"[{head}" if prefix else "-"
    last = f"({head}\x01" if prefix else "+"  # behind the prefix itself and all that goes on with a NUL
    return Call.command(
        "ZRANGEBYLEX", at.item_namespaces, first, last, "LIMIT", 0, limit,
        parse=lambda found: [split(each.decode()) for each in found],
    )  # fmt: skip


def keys_of(keys: Keys, namespace: Namespace, *, start: int, count: int) -> Call[list[str]]:
    """Keys of a namespace's items in the order of their making."""
    listed = keys.of_namespace(namespace).items(joined(namespace))
    return Call.command(
        "ZRANGE", listed, start, start + count - 1, parse=lambda found: [each.decode() for each in found]
    )
