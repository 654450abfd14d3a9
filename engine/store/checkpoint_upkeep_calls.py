"""One function for each script that removes or copies checkpoints, as in :mod:`checkpoint_calls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runyard.engine.store.checkpoint_calls import Place, fence_words
from runyard.engine.store.client import Arg, Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Partition
from runyard.engine.store.scripts import script


@dataclass(frozen=True, slots=True)
class Record:
    """What removing needs to know of a checkpoint: its fields ``p``, ``f``, ``r`` and ``m``, empty where missing."""

    checkpoint_id: str
    parent_id: str
    versions: bytes
    run_id: str
    metadata: bytes


def records(place: Place, checkpoint_ids: Sequence[str], *, metadata: bool) -> list[Call[Record]]:
    """One call for each checkpoint; their metadata only when it is wanted."""
    names = ("p", "f", "r", "m") if metadata else ("p", "f", "r")

    def call(checkpoint_id: str) -> Call[Record]:
        def parse(reply: Sequence[bytes | None]) -> Record:
            parent, versions, run, *rest = [one or b"" for one in reply]
            return Record(checkpoint_id, parent.decode(), versions, run.decode(), rest[0] if rest else b"")

        return Call.command("HMGET", place.checkpoint(checkpoint_id), *names, parse=parse)

    return [call(checkpoint_id) for checkpoint_id in checkpoint_ids]


def run_members(partition: Partition, run_id: str) -> Call[list[tuple[str, str, str]]]:
    """Thread, namespace and id of checkpoints that are deleted with a run: of each slice the first in a namespace."""

    def parse(reply: Any) -> list[tuple[str, str, str]]:
        split = (member.decode().split("\0") for member in reply)
        return [(thread_id, namespace, checkpoint_id) for thread_id, namespace, checkpoint_id in split]

    return Call.command("SMEMBERS", partition.run_checkpoints(run_id), parse=parse)


def loose_members(place: Place) -> Call[list[tuple[str, str]]]:
    """Namespace and id of the checkpoints of the place's thread that only have writes."""

    def parse(reply: Any) -> list[tuple[str, str]]:
        split = (member.decode().split("\0") for member in reply)
        return [(namespace, checkpoint_id) for namespace, checkpoint_id in split]

    return Call.command("SMEMBERS", place.loose, parse=parse)


def channel_fields(place: Place) -> Call[list[bytes]]:
    return Call.command("HKEYS", place.channels)


def channel_values(place: Place, fields: Sequence[bytes]) -> Call[list[bytes | None]]:
    return Call.command("HMGET", place.channels, *fields)


def sizes(hashes: Sequence[str]) -> Call[list[list[tuple[bytes, int]]]]:
    """The fields of some hashes of one thread, at least one, and the bytes of their values."""

    def parse(reply: Sequence[Sequence[Any]]) -> list[list[tuple[bytes, int]]]:
        return [list(zip(flat[::2], flat[1::2], strict=True)) for flat in reply]

    return Call(script("measure_hashes"), tuple(hashes), (), parse)


def everything(place: Place, checkpoint_id: str) -> Call[list[bytes]]:
    """Fields and values of a checkpoint, flat."""
    return Call.command("HGETALL", place.checkpoint(checkpoint_id), parse=_flat)


def drop_checkpoints(
    place: Place, dropped: Sequence[Record], heirs: Mapping[str, str], *, fence: Fence | None
) -> Call[int]:
    """Remove checkpoints, and their entries in the indexes of their runs; ``heirs``: by run the checkpoint that takes
    the place of such an entry, if any does."""
    keys: list[str] = []
    words: list[Arg] = []
    for record in dropped:
        key, run_id, heir = place.checkpoint(record.checkpoint_id), record.run_id, heirs.get(record.run_id)
        keys += (key, place.partition.run_checkpoints(run_id) if run_id else key)
        words += (record.checkpoint_id, place.run_member(record.checkpoint_id) if run_id else "")
        words.append(place.run_member(heir) if run_id and heir else "")
    return _drop(place, keys, words, fence)


def drop_run_members(place: Place, run_id: str, checkpoint_ids: Sequence[str], *, fence: Fence | None) -> Call[int]:
    """Remove entries of the index of a run; the checkpoints themselves are not touched."""
    index = place.partition.run_checkpoints(run_id)
    words = [word for checkpoint_id in checkpoint_ids for word in ("", place.run_member(checkpoint_id), "")]
    return _drop(place, [index] * (2 * len(checkpoint_ids)), words, fence)


def _drop(place: Place, keys: Sequence[str], words: Sequence[Arg], fence: Fence | None) -> Call[int]:
    fence_key, *fenced = fence_words(fence, place.checkpoints)
    return Call(script("drop_checkpoints"), (fence_key, place.checkpoints, *keys), (*fenced, *words))


def drop_channels(place: Place, fields: Sequence[bytes], *, fence: Fence | None) -> Call[int]:
    fence_key, *fenced = fence_words(fence, place.channels)
    return Call(script("drop_channels"), (fence_key, place.channels), (*fenced, *fields))


def drop_loose(places: Sequence[tuple[Place, str]], *, fence: Fence | None) -> Call[int]:
    """Remove writes of checkpoints that were never put; all of one thread, and at least one."""
    loose = places[0][0].loose
    fence_key, *fenced = fence_words(fence, loose)
    keys = [place.checkpoint(checkpoint_id) for place, checkpoint_id in places]
    members = [place.loose_member(checkpoint_id) for place, checkpoint_id in places]
    return Call(script("drop_loose"), (fence_key, loose, *keys), (*fenced, *members))


def forget_namespace(place: Place, *, fence: Fence | None) -> Call[bool]:
    """Remove channel values and the name of a namespace without checkpoints; answers whether it had none."""
    fence_key, *fenced = fence_words(fence, place.checkpoints)
    keys = (fence_key, place.checkpoints, place.channels, place.namespaces)
    return Call(script("forget_namespace"), keys, (*fenced, place.namespace), bool)


def restore_checkpoint(place: Place, checkpoint_id: str, flat: Sequence[bytes], *, fence: Fence | None) -> Call[int]:
    fence_key, *fenced = fence_words(fence, place.checkpoints)
    keys = (fence_key, place.checkpoints, place.checkpoint(checkpoint_id), place.namespaces)
    return Call(script("restore_checkpoint"), keys, (*fenced, place.namespace, checkpoint_id, *flat))


def restore_channels(place: Place, flat: Sequence[bytes], *, fence: Fence | None) -> Call[int]:
    fence_key, *fenced = fence_words(fence, place.channels)
    return Call(script("restore_channels"), (fence_key, place.channels), (*fenced, *flat))


def _flat(reply: Any) -> list[bytes]:
    """Field and value in turn, whether the driver made a dict of HGETALL's answer or not."""
    return [word for pair in reply.items() for word in pair] if isinstance(reply, dict) else list(reply)
