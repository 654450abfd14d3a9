"""API keys: made, rotated, revoked, and recognised.

A key reads ``ry_<id>_<secret>``. The store keeps a hash of the secret; the whole key is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

from runyard.engine.errors import ApiKeyNotFound, InvalidInput
from runyard.engine.store import api_keys
from runyard.engine.store.api_keys import ApiKey
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys

PREFIX = "ry_"
_KEY = re.compile(r"ry_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


class ApiKeys:
    """Synchronous and thread-safe."""

    def __init__(self, store: SyncStore, keys: Keys) -> None:
        self._store, self._keys = store, keys

    def create(self, name: str, scopes: Iterable[str], *, tenant: str = "", ttl_s: float = 0) -> tuple[ApiKey, str]:
        """A new key and its text, which nobody can tell again. ``ttl_s`` 0: it works until it is revoked.

        Raises InvalidInput. Whoever names scopes checks that there are such.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput("name: must be text of 1 to 100 characters")
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        fields = {"name": name, "digest": _digest(secret), "scopes": " ".join(sorted(set(scopes))), "tenant": tenant}
        made = self._store.do(api_keys.save(self._keys, key_id, fields, ttl_ms=round(ttl_s * 1000)))
        return made, _text(key_id, secret)

    def rotate(self, key_id: str, *, overlap_s: float, ttl_s: float = 0) -> tuple[ApiKey, str]:
        """A new key for the same name, tenant and scopes; the old one works for ``overlap_s`` more, then no longer.

        Both in one step. Raises ApiKeyNotFound, also for one that was revoked.
        """
        old = self.get(key_id)
        new_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        fields = {"name": old.name, "digest": _digest(secret), "scopes": " ".join(old.scopes), "tenant": old.tenant}
        times = {"ttl_ms": round(ttl_s * 1000), "overlap_ms": round(overlap_s * 1000)}
        made = self._store.do(api_keys.save(self._keys, new_id, fields, replaces=key_id, **times))
        return made, _text(new_id, secret)

    def revoke(self, key_id: str) -> ApiKey:
        """Raises ApiKeyNotFound. Web processes notice within the seconds that they keep keys for."""
        return self._store.do(api_keys.revoke(self._keys, key_id))

    def get(self, key_id: str) -> ApiKey:
        """Raises ApiKeyNotFound."""
        found = self.find(key_id)
        if found is None:
            raise ApiKeyNotFound(f"There is no key {key_id[:60]!r}; `runyard keys list` shows those there are.")
        return found

    def find(self, key_id: str) -> ApiKey | None:
        return self._store.do(api_keys.get(self._keys, key_id))

    def all(self) -> list[ApiKey]:
        """Newest first; revoked and expired ones too."""
        ids = self._store.do(api_keys.ids(self._keys))
        found = self._store.do_all([api_keys.get(self._keys, key_id) for key_id in ids])
        return [each for each in found if each is not None]

    def note_use(self, key_id: str, at_ms: int) -> None:
        self._store.do(api_keys.note_use(self._keys, key_id, at_ms))


def parsed(text: str) -> tuple[str, str] | None:
    """Id and secret of what reads like a key; None for anything else."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def opens(key: ApiKey | None, secret: str) -> bool:
    """Whether the secret is the key's; takes the same time whether or not there is such a key."""
    digest = key.digest if key else "0" * 64
    return hmac.compare_digest(_digest(secret), digest) and key is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _text(key_id: str, secret: str) -> str:
    return f"{PREFIX}{key_id}_{secret}"
