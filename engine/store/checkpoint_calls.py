"""One function for each script of checkpoints: plain values in, a Call out. What the bytes mean is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from langchain_core.runnables import RunnableConfig

from runyard.engine.errors import InvalidInput
from runyard.engine.store.client import Arg, Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys, Partition
from runyard.engine.store.save import Part
from runyard.engine.store.scripts import script
from runyard.engine.vault import Vault


@dataclass(frozen=True, slots=True)
class Place:
    """The keys of one checkpoint namespace of one thread."""

    partition: Partition
    thread_id: str
    namespace: str
    checkpoints: str
    channels: str
    namespaces: str
    loose: str
    prefix: str
    vault: Vault | None = None

    def seal(self, data: bytes) -> bytes:
        """``data`` as it is to be kept: encrypted for the thread, where that is set up."""
        return data if self.vault is None else self.vault.seal(data, self.thread_id)

    def checkpoint(self, checkpoint_id: str) -> str:
        return self.prefix + checkpoint_id

    def loose_member(self, checkpoint_id: str) -> str:
        return f"{self.namespace}\0{checkpoint_id}"

    def run_member(self, checkpoint_id: str) -> str:
        return f"{self.thread_id}\0{self.namespace}\0{checkpoint_id}"

    @property
    def depth(self) -> int:
        """How many graphs are around the one of this namespace."""
        return self.namespace.count("|") + 1 if self.namespace else 0

    def surrounds(self, other: Place) -> bool:
        """Whether this is the other's namespace or one that a graph around it runs in."""
        return not self.namespace or f"{other.namespace}|".startswith(f"{self.namespace}|")

    def config(self, checkpoint_id: str) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": self.thread_id,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": checkpoint_id,
            }
        }


@lru_cache(maxsize=4096)
def place_of(keys: Keys, thread_id: str, namespace: str) -> Place:
    """Raises InvalidInput for a NUL byte, which separates names in the store."""
    for name in (thread_id, namespace):
        if "\0" in name:
            raise InvalidInput(f"A thread id or checkpoint namespace must not contain a NUL character: {name!r}")
    of = keys.of_thread(thread_id)
    return Place(
        partition=of,
        thread_id=thread_id,
        namespace=namespace,
        checkpoints=of.checkpoints(thread_id, namespace),
        channels=of.channels(thread_id, namespace),
        namespaces=of.namespaces(thread_id),
        loose=of.loose(thread_id),
        prefix=of.checkpoint(thread_id, namespace, ""),
        vault=keys.vault,
    )


def fence_words(fence: Fence | None, otherwise: str) -> tuple[str, str, str]:
    """Key, field and value of a fence; without one an empty field and any key of the partition."""
    return (fence.key, fence.field, fence.value) if fence is not None else (otherwise, "", "")


def checkpoint_part(
    place: Place,
    checkpoint_id: str,
    *,
    body: bytes,
    metadata: bytes,
    parent_id: str,
    versions: str,
    values: Sequence[Arg],
    emptied: Sequence[Arg] = (),
    run_id: str = "",
    run_key: str | None = None,
    step: int | None = None,
    listed: bool = False,
    first: bool = True,
) -> Part:
    """A checkpoint to save: ``values`` are the field and value of each new version, ``emptied`` the fields of versions
    that have none. ``run_key`` and ``step`` together: the run is told that it has come this far.

    Of a graph within the run's only whoever holds the fence is told, for the count of crashes; ``first`` forgets that,
    and tells the run that its input is saved: not needed where the caller has told it so, and put none of such a graph
    since. ``listed``: the caller has put another checkpoint of the namespace for this run before, and no writes for
    this one. The index of the run names the first of each slice only: see :func:`checkpoint_upkeep.delete_for_runs`.
    """
    key = place.checkpoint(checkpoint_id)
    tell: str | int = ""
    if run_key is not None and step is not None:
        tell = place.depth or ("first" if first else "run")
    keys: tuple[str, ...] = (place.checkpoints, key, place.channels)
    listing: tuple[str, ...] = ()
    if not listed:
        keys += (place.namespaces, place.loose, place.partition.run_checkpoints(run_id) if run_id else key)
        member = place.run_member(checkpoint_id) if run_id else ""
        listing = (place.namespace, place.loose_member(checkpoint_id), member)
    about = (checkpoint_id, body, metadata, parent_id, versions, run_id, tell, step or 0, len(values))
    return Part("checkpoint", keys, (*about, *values, *emptied, *listing), run_key)


def writes_part(
    place: Place,
    checkpoint_id: str,
    writes: Sequence[Arg],
    *,
    run_key: str | None = None,
    entered: bool = False,
    taken: tuple[str, str, str] | None = None,
    there: bool = False,
) -> Part:
    """What a task wrote, to save. ``entered``: these writes are the run's input, so that it need not be given again.

    ``taken``: the answer that the task has taken, as the key of a checkpoint of this thread and a field there, and the
    field of these writes that says so: the answer goes when that field changes. ``there``: the checkpoint has been put.
    """
    key = place.checkpoint(checkpoint_id)
    tell = "" if run_key is None else "entered" if entered else "progress"
    if there and taken is None:
        return Part("writes", (key,), (tell, *writes), run_key)
    answer, fields = (taken[:1], taken[1:]) if taken is not None else ((), ())
    words = (tell, place.loose_member(checkpoint_id), *fields, *writes)
    return Part("writes", (key, place.loose, *answer), words, run_key)


def get_checkpoint(place: Place, checkpoint_id: str | None) -> Call[list[Any] | None]:
    """One checkpoint, or the latest, as get_checkpoint.lua gives it."""
    key = place.checkpoint(checkpoint_id or "")
    return Call(script("get_checkpoint"), (place.checkpoints, place.channels, key), (checkpoint_id or "",))


def read_checkpoints(place: Place, checkpoint_ids: Sequence[str]) -> Call[list[Any]]:
    """Several checkpoints, as read_checkpoints.lua gives them."""
    return Call(script("read_checkpoints"), (place.channels, *map(place.checkpoint, checkpoint_ids)), ())


def walk_ancestors(
    place: Place, start: str, checkpoint_id: str, stop: str, stride: int, channels: Sequence[str]
) -> Call[list[Any]]:
    """Writes and values of channels in a checkpoint's ancestors, as walk_ancestors.lua gives them."""
    keys = (place.checkpoints, place.channels, place.prefix)
    return Call(script("walk_ancestors"), keys, (start, checkpoint_id, stop, stride, *channels))


def checkpoint_ids(place: Place, highest: str, lowest: str, count: int) -> Call[list[str]]:
    """Ids from ``highest`` down to ``lowest``, in the notation of ZREVRANGEBYLEX."""
    return Call.command("ZREVRANGEBYLEX", place.checkpoints, highest, lowest, "LIMIT", 0, count, parse=_names)


def metadata(place: Place, checkpoint_id: str) -> Call[bytes | None]:
    return Call.command("HGET", place.checkpoint(checkpoint_id), "m")


def namespaces(place: Place) -> Call[list[str]]:
    """All checkpoint namespaces of the place's thread, the root first."""
    return Call.command("SMEMBERS", place.namespaces, parse=lambda reply: sorted(_names(reply)))


def scan_threads(keys: Keys, cursor: int) -> Call[tuple[int, list[str]]]:
    """The next cursor and some thread ids that have checkpoints. Walks the whole store: not for the hot path."""
    head, tail = f"{keys.prefix}:{{", ":namespaces"

    def parse(reply: Any) -> tuple[int, list[str]]:
        names = (name[len(head) : -len(tail)].partition(":thread:")[2] for name in _names(reply[1]))
        return int(reply[0]), [name for name in names if name]

    return Call.command("SCAN", cursor, "MATCH", f"{head}*}}:thread:*{tail}", "COUNT", 1000, parse=parse)


def _names(reply: Any) -> list[str]:
    return [name.decode() for name in reply]


def _nothing(_: Any) -> None:
    return None
