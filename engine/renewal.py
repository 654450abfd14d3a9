"""Encrypting what is kept under an old key under the one that encrypts now, while everything goes on.

All keys of the store are walked, a batch at a time. Each value is written only where it is still the one that was
read, so nothing that happens meanwhile is undone, and what changed then is found by the next walk. It can be stopped at
any moment and begun again: what is done is under the new key and is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runyard.engine.errors import Sealed
from runyard.engine.store import sealed
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import encryption
from runyard.engine.vault import Vault, parts

#: Keys in one step of the walk, and values of a hash in one read.
BATCH = 200


@dataclass(slots=True)
class Walk:
    """What was found, and done, so far."""

    #: Sealed values by the id of the key they were under when they were read.
    found: Counter[str] = field(default_factory=Counter)
    renewed: int = 0
    #: Why values could not be opened, by the words that say so.
    problems: Counter[str] = field(default_factory=Counter)

    def old(self, vault: Vault) -> dict[str, int]:
        """How many values were under another key than the first."""
        return {key_id: count for key_id, count in self.found.items() if key_id != vault.key_id}


def walk(store: SyncStore, keys: Keys, vault: Vault, *, renew: bool) -> Iterator[Walk]:
    """Look at every value, and with ``renew`` encrypt what is under an old key anew; gives what came of it so far.

    ``store`` opens nothing itself. A store that is away raises StoreUnavailable; what was done stays done.
    """
    so_far, cursor = Walk(), -1
    while cursor:
        cursor, names = store.do(sealed.scan(keys, max(cursor, 0), BATCH))
        kinds = store.do_all([sealed.kind_of(name) for name in names])
        for name, kind in zip(names, kinds, strict=True):
            if look := _LOOK.get(kind):
                look(store, name, lambda value: _seen(vault, value, so_far, renew=renew), so_far)
        yield so_far


def forget_old(store: SyncStore, keys: Keys, vault: Vault) -> list[str]:
    """Note that no value is under another key than the first any more; answers the ids that are not needed now."""
    old = [key_id for key_id in store.do(encryption(keys)) if key_id != vault.key_id]
    if old:
        store.do(Call.command("HDEL", keys.encryption, *old))
    return old


def _seen(vault: Vault, value: bytes, so_far: Walk, *, renew: bool) -> bytes | None:
    """Count a value; with ``renew`` also what it is to be, if it is to be another."""
    so_far.found.update(part.key_id for part in parts(value))
    try:
        return vault.renewed(value) if renew else None
    except Sealed as problem:
        so_far.problems[str(problem)] += 1
        return None


#: What a value is to be, or None: it stays.
_Made = Callable[[bytes], bytes | None]


def _put(store: SyncStore, name: str, kind: str, found: list[tuple[bytes | int, bytes]], made: _Made) -> int:
    changes = [(at, was, now) for at, was in found if (now := made(was)) is not None]
    return store.do(sealed.reseal(name, kind, changes)) if changes else 0


def _string(store: SyncStore, name: str, made: _Made, so_far: Walk) -> None:
    so_far.renewed += _put(store, name, "string", [(b"", store.do(sealed.text(name)))], made)


def _list(store: SyncStore, name: str, made: _Made, so_far: Walk) -> None:
    held = store.do(sealed.elements(name))
    so_far.renewed += _put(store, name, "list", [*enumerate(held)], made)


def _hash(store: SyncStore, name: str, made: _Made, so_far: Walk) -> None:
    cursor = -1
    while cursor:
        cursor, some = store.do(sealed.fields(name, max(cursor, 0), BATCH))
        so_far.renewed += _put(store, name, "hash", list(some.items()), made)


def _stream(store: SyncStore, name: str, made: _Made, so_far: Walk) -> None:
    count, anew = 0, []
    for entry_id, words in store.do(sealed.entries(name)):
        found = [(word, made(word)) for word in words]
        count += sum(now is not None for _, now in found)
        anew.append((entry_id, [was if now is None else now for was, now in found]))
    if count and store.do(sealed.reseal_stream(name, anew)):
        so_far.renewed += count


_LOOK = {"string": _string, "list": _list, "hash": _hash, "stream": _stream}
