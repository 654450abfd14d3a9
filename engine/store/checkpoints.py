"""What a stored checkpoint looks like, and how LangGraph's values become one and come back.

A checkpoint is a hash:

| field | content |
|---|---|
| `c` | the checkpoint without its channel values, and without its channel versions when those are all text |
| `m` | its metadata |
| `p` | its parent's id, or empty |
| `f` | its channel versions, `channel NUL version NUL ...`: fields of `channels:<ns>`, for those that have a value |
| `r` | the run it is deleted with, if any |
| `w<task> NUL <n>` | the n-th write of a task: `channel NUL task path NUL value`. The first one stays |
| `x<task> NUL <n>` | the same for errors, interrupts and resumes. The last one stays |

It exists for readers when `f` does; before that, writes may have arrived for it. Values, `c` and `m` are as
:mod:`runyard.engine.store.serde` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, RESUME

from runyard.engine import redact
from runyard.engine.errors import InvalidInput
from runyard.engine.store.checkpoint_calls import Place
from runyard.engine.store.client import Arg
from runyard.engine.store.serde import decode, encode
from runyard.engine.wire import MOST_MESSAGE

#: LangGraph's task id for writes that belong to no node: the run's own input, a resume value, an update.
NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"

_APART = ("channel_values", "channel_versions")


def encode_body(serde: SerializerProtocol, place: Place, checkpoint: Checkpoint) -> bytes:
    body = {key: value for key, value in checkpoint.items() if key not in _APART}
    versions = checkpoint["channel_versions"]
    if not all(type(version) is str for version in versions.values()):
        body["channel_versions"] = versions
    return place.seal(encode(serde, "checkpoint", body))


def encode_metadata(serde: SerializerProtocol, place: Place, metadata: CheckpointMetadata) -> bytes:
    return place.seal(encode(serde, "metadata", metadata))


def encode_versions(versions: ChannelVersions) -> str:
    """Field ``f``. Raises InvalidInput for a NUL character in a channel's name."""
    joined = "".join([f"{channel}\0{version}\0" for channel, version in versions.items()])
    if joined.count("\0") != 2 * len(versions):
        raise InvalidInput(f"The name of a state key must not contain a NUL character: {list(versions)!r}")
    return joined


def encode_values(
    serde: SerializerProtocol, place: Place, values: Mapping[str, Any], new_versions: ChannelVersions
) -> tuple[list[Arg], list[Arg]]:
    """Field and value for each new version of a channel, and the fields of those that hold none."""
    args: list[Arg] = []
    emptied: list[Arg] = []
    for channel, version in new_versions.items():
        if channel in values:
            args += (f"{channel}\0{version}", place.seal(encode(serde, channel, values[channel])))
        else:
            emptied.append(f"{channel}\0{version}")
    return args, emptied


def encode_writes(
    serde: SerializerProtocol, place: Place, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
) -> list[Arg]:
    """Field and value for each write of a task."""
    args: list[Arg] = []
    for position, (channel, value) in enumerate(writes):
        head = f"{channel}\0{task_path}\0".encode()
        if head.count(0) != 2:
            raise InvalidInput(
                f"Names of nodes and state keys must not contain a NUL character: {channel!r} {task_path!r}"
            )
        index = WRITES_IDX_MAP.get(channel, position)
        args.append(f"{'w' if index >= 0 else 'x'}{task_id}\0{index}")
        args.append(head + place.seal(encode(serde, channel, _told(value) if channel == ERROR else value)))
    return args


def _told(error: Any) -> Any:
    """What is kept of an exception: its text, as LangGraph keeps it, without what looks like a secret."""
    return redact.text(repr(error), MOST_MESSAGE) if isinstance(error, BaseException) else error


def resume_field(task_id: str) -> str:
    """The field that keeps the answers which a task has taken; of the null task, the one that waits for a taker."""
    return f"x{task_id}\0{WRITES_IDX_MAP[RESUME]}"


def decode_tuple(serde: SerializerProtocol, place: Place, reply: Sequence[Any]) -> CheckpointTuple:
    """What get_checkpoint.lua gave, as LangGraph wants it."""
    fields = _pairs(reply[1])
    versions = decode_versions(fields[b"f"])
    values = zip(versions, reply[2], strict=True)
    return _tuple(serde, place, reply[0].decode(), fields, versions, {name: value for name, value in values if value})


def decode_listed(
    serde: SerializerProtocol, place: Place, checkpoint_ids: Sequence[str], reply: Sequence[Any]
) -> list[CheckpointTuple]:
    """What read_checkpoints.lua gave. A checkpoint that is gone by now is left out."""
    stored = _pairs(reply[1])
    listed = []
    for checkpoint_id, flat in zip(checkpoint_ids, reply[0], strict=True):
        if flat:
            fields = _pairs(flat)
            versions = decode_versions(fields[b"f"])
            found = ((name, stored.get(f"{name}\0{version}".encode())) for name, version in versions.items())
            values = {name: value for name, value in found if value}
            listed.append(_tuple(serde, place, checkpoint_id, fields, versions, values))
    return listed


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _tuple(
    serde: SerializerProtocol,
    place: Place,
    checkpoint_id: str,
    fields: Mapping[bytes, bytes],
    versions: dict[str, str],
    values: Mapping[str, bytes],
) -> CheckpointTuple:
    checkpoint = cast(Checkpoint, decode(serde, fields[b"c"]))
    checkpoint.setdefault("channel_versions", cast(ChannelVersions, versions))
    checkpoint["channel_values"] = {name: decode(serde, value) for name, value in values.items()}
    parent = fields[b"p"].decode()
    return CheckpointTuple(
        config=place.config(checkpoint_id),
        checkpoint=checkpoint,
        metadata=cast(CheckpointMetadata, decode(serde, fields[b"m"])),
        parent_config=place.config(parent) if parent else None,
        pending_writes=decode_writes(serde, fields.items()),
    )


def resealed(place: Place, field: bytes, stored: bytes) -> bytes:
    """What a field holds that was read from another thread, as it is to be kept in this one."""
    if field in (b"c", b"m"):
        return place.seal(stored)
    if len(field) == 1:
        return stored
    channel, path, value = stored.split(b"\0", 2)
    return b"\0".join((channel, path, place.seal(value)))


def decode_versions(stored: bytes) -> dict[str, str]:
    """Field ``f``: channels and their versions, in its order."""
    names = stored.decode().split("\0")
    return dict(zip(names[:-1:2], names[1::2], strict=True))


#: A write as it is kept: task id, channel, the stored bytes of its value.
StoredWrite = tuple[str, str, bytes]


def stored_writes(fields: Iterable[tuple[bytes, bytes]]) -> list[StoredWrite]:
    """The writes among a checkpoint's fields, in LangGraph's order (``writes_sort_key``)."""
    writes = []
    for field, stored in fields:
        if len(field) == 1:
            continue
        task_id, _, index = field[1:].partition(b"\0")
        channel, path, value = stored.split(b"\0", 2)
        # UTF-8 sorts as its text does, and no two writes of a task have the same index
        writes.append((path, task_id, int(index), channel, value))
    writes.sort(key=lambda write: write[:3])
    return [(task_id.decode(), channel.decode(), value) for _, task_id, _, channel, value in writes]


def decode_write(serde: SerializerProtocol, write: StoredWrite) -> PendingWrite:
    return (write[0], write[1], decode(serde, write[2]))


def decode_writes(serde: SerializerProtocol, fields: Iterable[tuple[bytes, bytes]]) -> list[PendingWrite]:
    """The same with their values."""
    return [decode_write(serde, write) for write in stored_writes(fields)]
