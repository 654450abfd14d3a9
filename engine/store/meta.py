"""What a store says about itself, checked by every process before it touches anything."""

from __future__ import annotations

from typing import Any

import structlog

from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.keys import LAYOUT, Keys
from runyard.engine.store.replies import as_hash
from runyard.engine.vault import Vault, missing, vault_of

log = structlog.get_logger(__name__)


def keys_of(settings: Settings) -> Keys:
    """The keys of the settings' store, with what encrypts there. Raises ConfigError."""
    return Keys(settings.prefix, settings.partitions, vault=vault_of(settings.encryption_keys))


def open_store(store: SyncStore, keys: Keys) -> Keys:
    """Mark a new store with its number of partitions and layout, and check an old one. Raises ConfigError."""
    is_new, _ = store.do_all(
        [
            Call.command("HSETNX", keys.meta, "partitions", keys.partitions),
            Call.command("HSETNX", keys.meta, "layout", LAYOUT),
        ]
    )
    if is_new:  # one from before threads had labels goes without them
        store.do(Call.command("HSET", keys.meta, "labels", 1))
    known = {name: int(value) for name, value in store.do(Call.command("HGETALL", keys.meta, parse=as_hash)).items()}
    if known["partitions"] != keys.partitions:
        raise ConfigError(
            f"RUNYARD_PARTITIONS={keys.partitions} is not valid: this store was made with {known['partitions']} "
            "partitions, which cannot be changed. Use that number, another RUNYARD_PREFIX or an empty store."
        )
    if known["layout"] != LAYOUT:
        raise ConfigError(
            f"REDIS_URL points to a store of layout {known['layout']}; this version of Runyard needs layout {LAYOUT}."
        )
    if warning := eviction_warning(store):
        log.warning("store.may_evict", detail=warning)
    check_keys(keys.vault, store.do(encryption(keys)))
    if keys.vault is not None:
        store.do(Call.command("HSETNX", keys.encryption, keys.vault.key_id, keys.vault.fingerprint(keys.vault.key_id)))
    return keys


def encryption(keys: Keys) -> Call[dict[str, str]]:
    """The ids of the keys that values of the store may be encrypted under, and their fingerprints."""

    def parse(reply: Any) -> dict[str, str]:
        return {key_id: fingerprint.decode() for key_id, fingerprint in as_hash(reply).items()}

    return Call.command("HGETALL", keys.encryption, parse=parse)


def check_keys(vault: Vault | None, known: dict[str, str]) -> None:
    """Raises ConfigError where a key is missing, or another one than it was, that the store's values need."""
    for key_id, fingerprint in known.items():
        if vault is None or key_id not in vault.key_ids:
            raise ConfigError(missing(key_id))
        if vault.fingerprint(key_id) != fingerprint:
            raise ConfigError(
                f"RUNYARD_ENCRYPTION_KEYS names a key {key_id!r} that is not the one the store's values were encrypted "
                "under. Put that one back; a new key needs an id of its own."
            )


def eviction_warning(store: SyncStore) -> str | None:
    """Why this store could lose keys when its memory is full, or None when it cannot or does not tell."""
    memory: dict[str, object] = store.do(Call.command("INFO", "memory"))
    policy, limit = memory.get("maxmemory_policy", "noeviction"), memory.get("maxmemory", 0)
    if policy == "noeviction":
        return None
    return f"maxmemory-policy is {policy} (maxmemory {limit}): a full store would drop runs. Set it to noeviction."
