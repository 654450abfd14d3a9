"""``runyard doctor``: what a store must be, and whether anybody works on it. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from kombu import Connection
from kombu.utils.url import maybe_sanitize_url

from runyard.app.commands.check import Finding, fail, ok, skip, warn
from runyard.engine.errors import ConfigError, EngineError
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.keys import LAYOUT, Keys
from runyard.engine.store.meta import check_keys, encryption, eviction_warning
from runyard.tasks.wake import BROKER_AWAY

OLDEST_REDIS = (6, 2)
#: A run that waits longer than this, while a worker of its queue beats, is not being taken.
DEAF_AFTER_MS = 5_000


def check_store(store: SyncStore, keys: Keys) -> Iterator[Finding]:
    """Version, eviction, persistence and partitions. Raises StoreUnavailable."""
    info: dict[str, Any] = store.do(Call.command("INFO"))
    yield _check_version(info)
    yield _check_eviction(store)
    yield _check_persistence(store, info)
    yield _check_meta(store, keys)
    yield _check_encryption(store, keys)


def _check_version(info: dict[str, Any]) -> Finding:
    version = str(info.get("redis_version", "0"))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_REDIS:
        return ok("store", f"{name} answers")
    return fail("store", f"{name} is too old", "Use Redis 6.2 or newer, or Valkey.")


def _check_eviction(store: SyncStore) -> Finding:
    if warning := eviction_warning(store):
        return fail("eviction", warning, "CONFIG SET maxmemory-policy noeviction, and in the server's configuration.")
    return ok("eviction", "noeviction: a full store refuses, it forgets nothing")


def _check_persistence(store: SyncStore, info: dict[str, Any]) -> Finding:
    if not info.get("aof_enabled"):
        todo = "Set appendonly yes, unless the provider keeps the data in another way."
        return warn("persistence", "the append-only file is off: a restart of the store may lose accepted runs", todo)
    try:
        fsync = _text(store.do(Call.command("CONFIG", "GET", "appendfsync"))).get("appendfsync")
    except Exception as problem:  # noqa: BLE001 - managed stores hide CONFIG in ways of their own: then it is not known
        return ok("persistence", f"append-only file; how often it is synced is not told ({problem})")
    if fsync == "always":
        return ok("persistence", "append-only file, synced at every write")
    todo = "Set appendfsync always, if a run that was accepted must survive that too."
    return warn("persistence", f"append-only file, appendfsync {fsync}: a power cut may lose the last second", todo)


def _check_meta(store: SyncStore, keys: Keys) -> Finding:
    meta = {name: int(value) for name, value in _text(store.do(Call.command("HGETALL", keys.meta))).items()}
    if not meta:
        return ok("partitions", f"a new store; it will have {keys.partitions}")
    if meta["layout"] != LAYOUT:
        said = f"the store has layout {meta['layout']}, this Runyard needs {LAYOUT}"
        return fail(
            "partitions", said, "Use the version of Runyard that made it, another RUNYARD_PREFIX or an empty store."
        )
    if meta["partitions"] != keys.partitions:
        said = f"the store has {meta['partitions']}, RUNYARD_PARTITIONS says {keys.partitions}"
        return fail(
            "partitions", said, f"Set RUNYARD_PARTITIONS={meta['partitions']}; the number cannot be changed later."
        )
    return ok("partitions", str(keys.partitions))


def _check_encryption(store: SyncStore, keys: Keys) -> Finding:
    known, vault = store.do(encryption(keys)), keys.vault
    try:
        check_keys(vault, known)
    except ConfigError as problem:
        return fail("encryption", str(problem), "No process starts with it.")
    if vault is None:
        return ok("encryption", "off")
    old = sorted(set(known) - {vault.key_id})
    also = f"; values may still be under {', '.join(old)}" if old else ""
    return ok("encryption", f"on, under the key {vault.key_id}{also}")


def check_broker(settings: Settings) -> Finding:
    """Whether wake-ups can be sent. Without it runs are accepted, and start when recovery finds them."""
    shown = maybe_sanitize_url(settings.celery_broker)
    with Connection(settings.celery_broker, connect_timeout=2) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=2)
        except BROKER_AWAY as problem:
            said = f"{shown} does not answer: {problem}"
            return fail("broker", said, "Start it, or correct RUNYARD_BROKER_URL; until then runs start late.")
    return ok("broker", f"{shown} answers")


def check_workers(service: Service, settings: Settings) -> Iterator[Finding]:
    """Whether workers live, and take what waits."""
    workers, waits_ms = service.workers(), service.waits_ms()
    consumed = {queue for worker in workers for queue in worker["queues"].split(",")}
    for queue in sorted({settings.queue, *waits_ms} - consumed):
        waiting = f", and a run has waited {waits_ms[queue] / 1000:.0f} s" if queue in waits_ms else ""
        yield fail(
            "workers",
            f"none consumes the queue {queue!r}{waiting}",
            "Start one: `runyard up`, or the Procfile's worker.",
        )
    for worker in workers:
        yield _check_worker(worker, waits_ms)
    for worker in service.workers(gone=True):
        yield _gone(worker)


def check_host(service: Service, host: str) -> Iterator[Finding]:
    """Whether the workers of one host live, and take what waits."""
    workers, waits_ms = [worker for worker in service.workers() if worker["host"] == host], service.waits_ms()
    if not workers:
        yield fail("workers", f"none of {host} lives", "Start one there; its log says why it stopped.")
    for worker in workers:
        yield _check_worker(worker, waits_ms)


def _gone(worker: dict[str, str]) -> Finding:
    """A worker that was not stopped in order: one that is takes itself off the list."""
    said = f"{worker['id']}: gone or does not move, last heard of {_ago(int(worker['quiet_ms']))}"
    todo = "Others have taken its runs. Its log says why it ended; a process that is still there was stopped, or hangs."
    return warn("worker", f"{said}, with {worker['in_hand']} runs in hand", todo)


def _check_worker(worker: dict[str, str], waits_ms: dict[str, int]) -> Finding:
    check, took_ms, now_ms = "worker", int(worker["took_at"]), time.time() * 1000
    waited_ms = max((waits_ms.get(queue, 0) for queue in worker["queues"].split(",")), default=0)
    quiet_ms = now_ms - max(took_ms, int(worker["started_at"]))
    took = f"took its last run {_ago(now_ms - took_ms)}" if took_ms else "took none yet"
    said = f"{worker['id']}: queues {worker['queues']}, {worker['in_hand']} runs in hand, {took}"
    if waited_ms > DEAF_AFTER_MS and quiet_ms > DEAF_AFTER_MS and _has_room(worker):
        return fail(
            check,
            f"deaf: a run has waited {waited_ms / 1000:.0f} s; {said}",
            "Restart it; its log says why it stopped. Or an async node that does not wait holds up its event loop.",
        )
    return ok(check, said)


def _has_room(worker: dict[str, str]) -> bool:
    return int(worker["in_hand"]) < int(worker.get("capacity") or 1)


def guarded(checks: Iterator[Finding], check: str, todo: str) -> Iterator[Finding]:
    """The findings of ``checks``; a store that goes away in between is one, too."""
    try:
        yield from checks
    except EngineError as problem:
        yield fail(check, str(problem), todo)


def without_store(reason: str) -> Iterator[Finding]:
    for check in ("eviction", "persistence", "partitions", "encryption", "broker", "workers"):
        yield skip(check, reason)


def _text(reply: Any) -> dict[str, str]:
    """A hash in any of the forms that drivers give it."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {_str(name): _str(value) for name, value in pairs}


def _str(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _ago(ms: float) -> str:
    return "just now" if ms < 2000 else f"{ms / 1000:.0f} s ago" if ms < 120_000 else f"{ms / 60_000:.0f} min ago"
