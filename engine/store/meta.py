"""What a store says about itself, checked by every process before it touches anything."""

from __future__ import annotations

import structlog

from runyard.engine.errors import ConfigError
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.keys import LAYOUT, Keys
from runyard.engine.store.runs import _any

log = structlog.get_logger(__name__)


def open_store(store: SyncStore, keys: Keys) -> Keys:
    """Mark a new store with its number of partitions and layout, and check an old one. Raises ConfigError."""
    store.do_all(
        [
            Call.command("HSETNX", keys.meta, "partitions", keys.partitions),
            Call.command("HSETNX", keys.meta, "layout", LAYOUT),
        ]
    )
    known = {name: int(value) for name, value in store.do(Call.command("HGETALL", keys.meta, parse=_any)).items()}
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
    return keys


def eviction_warning(store: SyncStore) -> str | None:
    """Why this store could lose keys when its memory is full, or None when it cannot or does not tell."""
    memory: dict[str, object] = store.do(Call.command("INFO", "memory"))
    policy, limit = memory.get("maxmemory_policy", "noeviction"), memory.get("maxmemory", 0)
    if policy == "noeviction":
        return None
    return f"maxmemory-policy is {policy} (maxmemory {limit}): a full store would drop runs. Set it to noeviction."
