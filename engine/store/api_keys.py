"""API keys in the store: their record, without the secret, and the typed functions for its scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.replies import as_hash, from_flat
from runyard.engine.store.scripts import script

State = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the store holds it. Instants are ms since the epoch on the store's clock."""

    key_id: str
    name: str
    #: SHA-256 of the secret, in hex. A secret has 256 random bits, so nothing slower is needed.
    digest: str
    scopes: tuple[str, ...]
    created_at: int
    tenant: str = ""
    expires_at: int | None = None
    revoked_at: int | None = None
    #: Within about a minute; None: never.
    last_used_at: int | None = None
    replaced_by: str | None = None

    def state(self, now_ms: float) -> State:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now_ms else "active"


def save(
    keys: Keys, key_id: str, fields: Mapping[str, str], *, ttl_ms: int = 0, replaces: str = "", overlap_ms: int = 0
) -> Call[ApiKey]:
    """Record a key; one that it ``replaces`` goes on working for ``overlap_ms``. Raises ApiKeyNotFound for that one."""
    words = [word for pair in fields.items() for word in pair]
    places = (keys.api_key(key_id), keys.api_keys, keys.api_key(replaces or key_id))
    return Call(
        script("save_api_key"), places, (key_id, overlap_ms, ttl_ms, *words), lambda reply: _decode(from_flat(reply))
    )


def revoke(keys: Keys, key_id: str) -> Call[ApiKey]:
    """Raises ApiKeyNotFound."""
    return Call(script("revoke_api_key"), (keys.api_key(key_id),), (), lambda reply: _decode(from_flat(reply)))


def get(keys: Keys, key_id: str) -> Call[ApiKey | None]:
    parse = lambda reply: _decode(as_hash(reply)) if reply else None  # noqa: E731 - one line says it
    return Call.command("HGETALL", keys.api_key(key_id), parse=parse)


def note_use(keys: Keys, key_id: str, at_ms: int) -> Call[Any]:
    return Call.command("HSET", keys.api_key(key_id), "last_used_at", at_ms)


def ids(keys: Keys) -> Call[list[str]]:
    """Newest first, revoked and expired ones too."""
    return Call.command("ZREVRANGE", keys.api_keys, 0, -1, parse=lambda found: [each.decode() for each in found])


def _decode(fields: Mapping[str, bytes]) -> ApiKey:
    def number(name: str) -> int | None:
        return int(fields[name]) if fields.get(name) else None

    def text(name: str) -> str:
        return fields.get(name, b"").decode()

    return ApiKey(
        key_id=text("key_id"),
        name=text("name"),
        digest=text("digest"),
        scopes=tuple(text("scopes").split()),
        created_at=int(fields["created_at"]),
        tenant=text("tenant"),
        expires_at=number("expires_at"),
        revoked_at=number("revoked_at"),
        last_used_at=number("last_used_at"),
        replaced_by=text("replaced_by") or None,
    )
