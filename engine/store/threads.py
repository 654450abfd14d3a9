"""Threads in the store: their record and the typed functions for its scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runyard.engine import wire
from runyard.engine.run import ThreadStatus
from runyard.engine.store import labels
from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys, Partition
from runyard.engine.store.replies import as_hash, from_flat
from runyard.engine.store.results import values_in
from runyard.engine.store.scripts import script

TtlStrategy = Literal["delete", "keep_latest"]
#: Ids of threads, and the ms of their last change.
Page = list[tuple[str, float]]
#: What a copy of a thread takes over besides its metadata and its checkpoints.
_FACE = ("config", "interrupts", "rest", "error", "graph_id", "assistant_id", "fingerprint")
#: What of that may tell what a run was about.
_SECRET = frozenset({"config", "values", "interrupts", "error"})
#: When a sweep that was cut off is taken up again.
_AGAIN_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeToLive:
    """How long a thread is kept after its last change, and what then goes: all of it, or its history."""

    minutes: float
    strategy: TtlStrategy
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread as the store holds it. Instants are ms since the epoch on the store's clock."""

    thread_id: str
    created_at: int
    updated_at: int
    state_updated_at: int
    #: What clients set; `raw_metadata` is its JSON as stored, the condition of an edit.
    metadata: dict[str, Any]
    raw_metadata: bytes
    status: ThreadStatus
    active: str | None
    #: JSON of the values after the last run, b"" before the first.
    values: bytes
    interrupts: dict[str, Any]
    error: dict[str, Any] | None
    graph_id: str | None
    config: dict[str, Any]
    #: Made for a single stateless run, or about to be deleted: left out of every listing.
    hidden: bool
    ttl: TimeToLive | None = None
    #: Whose it is; empty: the default tenant's.
    tenant: str = ""


def create(
    keys: Keys,
    thread_id: str,
    metadata: dict[str, Any],
    *,
    exist_ok: bool,
    tenant: str = "",
    fields: Mapping[str, bytes | str] | None = None,
) -> Call[Thread]:
    """Make a thread. Raises ThreadExists unless ``exist_ok``, which answers the one there is if it is the tenant's."""
    at = keys.of_thread(thread_id)
    wanted = (fields or {"config": b"{}"}).items()
    words = [word for name, value in wanted for word in (name, _kept(keys, thread_id, name, value))]
    mode = "do_nothing" if exist_ok else "raise"
    arguments = (thread_id, wire.encode(metadata), mode, tenant, labels.of(metadata), *words)
    return Call(script("create_thread"), (at.thread(thread_id), at.threads), arguments, lambda r: decode(from_flat(r)))


def _kept(keys: Keys, thread_id: str, name: str, value: bytes | str) -> bytes | str:
    """A field of a thread as it is to be kept."""
    is_secret = name in _SECRET and isinstance(value, bytes) and value
    return keys.seal(value, thread_id) if is_secret else value  # type: ignore[arg-type]


def get(keys: Keys, thread_id: str) -> list[Call[Any]]:
    """The two calls that :func:`from_replies` makes a thread of: its hash, and how many of its runs are queued."""
    at = keys.of_thread(thread_id)
    return [
        Call.command("HGETALL", at.thread(thread_id), parse=as_hash),
        Call.command("ZCARD", at.thread_queue(thread_id), parse=int),
    ]


def from_replies(fields: Mapping[str, bytes], queued: int) -> Thread | None:
    return decode(fields, queued=queued) if fields else None


def edit(keys: Keys, thread: Thread, metadata: dict[str, Any]) -> Call[Thread | None]:
    """Change the thread's metadata if it is still what ``thread`` holds; else None: read and try again."""
    at = keys.of_thread(thread.thread_id)
    words = (labels.of(metadata), "metadata", wire.encode(metadata))
    return Call(
        script("edit_thread"),
        (at.thread(thread.thread_id), at.threads),
        (thread.thread_id, thread.raw_metadata, *words),
        lambda reply: decode(from_flat(reply)) if reply is not None else None,
    )


def delete(keys: Keys, thread_id: str) -> Call[bool]:
    """Forget a thread; False, and nothing is done, when it has runs."""
    at = keys.of_thread(thread_id)
    return Call(
        script("delete_thread"),
        (
            at.thread(thread_id),
            at.threads,
            at.thread_runs(thread_id),
            at.ttl,
            at.thread_log(thread_id),
            at.thread_results(thread_id),
        ),
        (thread_id,),
        bool,
    )


def face(keys: Keys, thread_id: str) -> Call[dict[str, bytes | str]]:
    """The fields that a copy of a thread is made with."""

    def parse(reply: Any) -> dict[str, bytes | str]:
        fields = as_hash(reply)
        taken: dict[str, bytes | str] = {name: fields[name] for name in _FACE if name in fields}
        values = values_in(fields)
        return {"config": b"{}", **taken, **({"values": wire.pack_json(values)} if values else {})}

    return Call.command("HGETALL", keys.of_thread(thread_id).thread(thread_id), parse=parse)


def delayed(keys: Keys, thread_id: str) -> Call[int]:
    """How many runs of a thread wait for their time without having it."""
    key = keys.of_thread(thread_id).thread(thread_id)
    return Call.command("HGET", key, "delayed", parse=lambda reply: int(reply or 0))


def note_state(
    keys: Keys,
    thread_id: str,
    values: bytes,
    *,
    graph_id: str,
    assistant_id: str,
    rest: ThreadStatus,
    asked: bytes,
    events_ttl_ms: int,
) -> Call[bool]:
    """Show a state that a client has written on the thread's record, unless a run is active: its values (JSON), where
    that leaves the thread, and what its tasks ask (JSON). The values before are kept as long as events are, if they are
    a run's result."""
    at = keys.of_thread(thread_id)
    kept = keys.seal(wire.pack_json(values), thread_id)
    words = (thread_id, kept, graph_id, assistant_id, rest, keys.seal(asked, thread_id), events_ttl_ms)
    wanted = (at.thread(thread_id), at.threads, at.thread_results(thread_id))
    return Call(script("note_state"), wanted, words, bool)


def set_ttl(keys: Keys, thread_id: str, minutes: float, strategy: TtlStrategy) -> Call[int]:
    """Give a thread a time to live. Raises ThreadNotFound."""
    at = keys.of_thread(thread_id)
    return Call(script("set_ttl"), (at.thread(thread_id), at.ttl), (thread_id, round(minutes * 60_000), strategy))


def old(at: Partition, before_ms: int, *, most: int) -> Call[list[str]]:
    """Threads of one partition whose time to live may be over."""
    words = ("ZRANGEBYSCORE", at.ttl, "-inf", before_ms, "LIMIT", 0, most)
    return Call.command(*words, parse=lambda ids: [i.decode() for i in ids])


def expire(keys: Keys, thread_id: str) -> Call[TtlStrategy | None]:
    """What is to be done with such a thread now, if anything; one that is to be deleted is out of sight already."""
    at = keys.of_thread(thread_id)
    wanted = (at.thread(thread_id), at.thread_queue(thread_id), at.ttl)
    words = (thread_id, _AGAIN_MS)
    return Call(script("expire_thread"), wanted, words, lambda reply: reply.decode() if reply else None)


def idle_fence(keys: Keys, thread_id: str) -> Fence:
    """Holds while no run is active on the thread: the condition under which a client may edit its state."""
    return Fence(keys.of_thread(thread_id).thread(thread_id), "active", "")


def newest(keys: Keys, partition: int, *, limit: int, offset: int = 0) -> Call[Page]:
    """A partition's threads of the keys' tenant, last changed first: ids, and the ms of that change."""
    key = keys.all()[partition].threads_of(keys.tenant)
    words = ("ZREVRANGE", key, offset, offset + limit - 1, "WITHSCORES")
    return Call.command(*words, parse=lambda reply: [(member.decode(), float(ms)) for member, ms in reply])


def sift(keys: Keys, partition: int, ids: Sequence[str], wanted: Mapping[str, str | int]) -> Call[list[str]]:
    """Those of a partition's threads that may have all of these labels; the others do not have them."""
    at = keys.all()[partition]
    words: tuple[str | bytes, ...] = (at.thread(""), wire.encode(dict(wanted)), *ids)
    return Call(script("sift_threads"), (at.threads,), words, lambda left: [i.decode() for i in left])


def decode(fields: Mapping[str, bytes], *, queued: int = 0) -> Thread:
    def json(name: str) -> Any:
        return wire.decode(fields[name]) if fields.get(name) else None

    created_at = int(fields["created_at"])
    active = fields.get("active", b"").decode() or None
    busy = active is not None or queued > 0 or int(fields.get("delayed") or 0) > 0
    rest = fields.get("rest", b"idle").decode()
    graph_id = fields.get("graph_id", b"").decode() or None
    metadata = json("metadata") or {}
    if graph_id:  # chat clients find their threads by these two
        metadata = {**metadata, "graph_id": graph_id, "assistant_id": fields.get("assistant_id", b"").decode()}
    return Thread(
        thread_id=fields["thread_id"].decode(),
        created_at=created_at,
        updated_at=int(fields.get("updated_at") or created_at),
        state_updated_at=int(fields.get("state_updated_at") or created_at),
        metadata=metadata,
        raw_metadata=fields.get("metadata", b"{}"),
        status="busy" if busy else rest,  # type: ignore[arg-type]  # only THREAD_AFTER's words are stored
        active=active,
        values=values_in(fields),
        interrupts=json("interrupts") or {},
        error=json("error"),
        graph_id=graph_id,
        config=json("config") or {},
        hidden=fields.get("hidden", b"") == b"1",
        ttl=_ttl(fields),
        tenant=fields.get("tenant", b"").decode(),
    )


def _ttl(fields: Mapping[str, bytes]) -> TimeToLive | None:
    if "ttl_ms" not in fields:
        return None
    ttl_ms, since = int(fields["ttl_ms"]), max(int(fields.get("updated_at") or 0), int(fields["ttl_from"]))
    strategy: TtlStrategy = "keep_latest" if fields["ttl_strategy"] == b"keep_latest" else "delete"
    return TimeToLive(minutes=ttl_ms / 60_000, strategy=strategy, expires_at=since + ttl_ms)
