"""Removing checkpoints: of a thread, of runs (rollback), or all but the latest (retention), in batches.

None of it is atomic as a whole, and all of it can be repeated: what a crash left behind is removed the next time.
Checkpoints go before the channel values they need, newer ones before older ones, so that a reader never meets a
checkpoint with something missing. The thread should be at rest; a ``fence`` makes sure of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from langgraph.checkpoint.serde.base import SerializerProtocol

from runyard.engine.errors import InvalidInput
from runyard.engine.ids import is_uuid
from runyard.engine.store import checkpoint_calls as reading, checkpoint_upkeep_calls as calls
from runyard.engine.store.checkpoint_calls import Place, place_of
from runyard.engine.store.checkpoint_upkeep_calls import Record
from runyard.engine.store.checkpoints import decode_versions
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import Plan
from runyard.engine.store.serde import decode

#: Checkpoints, or channel values, removed by one script.
BATCH = 100
#: Checkpoints looked at in one round trip.
READ_BATCH = 500

T = TypeVar("T")


def delete_thread(keys: Keys, thread_id: str, *, fence: Fence | None) -> Plan[None]:
    """Remove all checkpoints of a thread, in all namespaces."""
    root = place_of(keys, thread_id, "")
    [names, loose] = yield [reading.namespaces(root), calls.loose_members(root)]
    yield from _drop_loose(keys, thread_id, loose, fence)
    for name in names:
        place = place_of(keys, thread_id, name)
        ids = yield from all_ids(place)
        yield from _drop(place, (yield from _records(place, ids)), fence)
        yield [calls.forget_namespace(place, fence=fence)]


def delete_for_runs(keys: Keys, run_ids: Sequence[str], *, fence: Fence | None) -> Plan[None]:
    """Remove the checkpoints that runs made, and the channel values that only those needed.

    The latest checkpoint of a thread is then the newest that is left. A thread that was copied keeps its copies: the
    runs are not its own. A later run's DeltaChannel that was built on a removed one loses that part of its history.

    A run's index names the first checkpoint that each of its slices put in a namespace; the others are newer than that,
    and say whose they are.
    """
    for run_id in run_ids:
        members = yield from _members_of_run(keys, run_id)
        for (thread_id, namespace), ids in _grouped(members).items():
            place = place_of(keys, thread_id, namespace)
            found = yield from _records(place, (yield from all_ids(place, from_id=min(ids))))
            own = [replace(record, run_id="") for record in found if record.run_id == run_id]
            yield from _drop(place, own, fence)
            yield from _tidy(keys, place, fence)
            # the index last: what a crash left undone above is found through it the next time
            for some in batches(ids):
                yield [calls.drop_run_members(place, run_id, some, fence=fence)]


def prune(
    keys: Keys, serde: SerializerProtocol, thread_ids: Sequence[str], strategy: str, *, fence: Fence | None
) -> Plan[None]:
    """``keep_latest``: keep the latest checkpoint of each namespace, and the ancestors its DeltaChannels are rebuilt
    from. ``delete``: remove all."""
    if strategy not in {"keep_latest", "delete"}:
        raise InvalidInput(f"There is no prune strategy {strategy!r}: it is 'keep_latest' or 'delete'.")
    for thread_id in thread_ids:
        if strategy == "delete":
            yield from delete_thread(keys, thread_id, fence=fence)
            continue
        root = place_of(keys, thread_id, "")
        [names, loose] = yield [reading.namespaces(root), calls.loose_members(root)]
        yield from _drop_loose(keys, thread_id, loose, fence)
        for name in names:
            yield from _keep_latest(place_of(keys, thread_id, name), serde, fence)


def _keep_latest(place: Place, serde: SerializerProtocol, fence: Fence | None) -> Plan[None]:
    found = yield from _records(place, (yield from all_ids(place)), metadata=True)
    [fields] = yield [calls.channel_fields(place)]
    kept = needed_for_latest(found, frozenset(fields), serde)
    heirs = {record.run_id: record.checkpoint_id for record in found if record.checkpoint_id in kept}
    yield from _drop(place, [record for record in found if record.checkpoint_id not in kept], fence, heirs)
    yield from _sweep(place, fence)


def needed_for_latest(found: Sequence[Record], stored: Collection[bytes], serde: SerializerProtocol) -> set[str]:
    """The latest of ``found`` (newest first) and the ancestors without which its DeltaChannels cannot be rebuilt.

    Those channels are known by their counters in the metadata of any checkpoint, and need ancestors while there is no
    value ``stored`` for them: back to the first that has one, which is kept too, since its writes come after its value.
    """
    by_id = {record.checkpoint_id: record for record in found}
    record = found[0] if found else None
    delta = {name for one in found for name in _delta_channels(one, serde)}
    kept: set[str] = set()
    missing: set[str] | None = None
    while record is not None and record.checkpoint_id not in kept:
        kept.add(record.checkpoint_id)
        versions = decode_versions(record.versions)
        if missing is None:
            missing = delta & versions.keys()
        missing -= {name for name in missing if f"{name}\0{versions.get(name)}".encode() in stored}
        record = by_id.get(record.parent_id) if missing else None
    return kept


def _delta_channels(record: Record, serde: SerializerProtocol) -> Collection[str]:
    metadata = decode(serde, record.metadata) if record.metadata else {}
    return metadata.get("counters_since_delta_snapshot") or ()


def _members_of_run(keys: Keys, run_id: str) -> Plan[list[tuple[str, str, str]]]:
    """A run id of ours names its partition; any other may have checkpoints in all of them."""
    named = keys.of_run(run_id) if is_uuid(run_id) else None
    if named is not None and named.number < keys.partitions:
        [members] = yield [calls.run_members(named, run_id)]
        if members:
            return list(members)
    everywhere = yield [calls.run_members(partition, run_id) for partition in keys.all()]
    return [member for members in everywhere for member in members]


def _grouped(members: Sequence[tuple[str, str, str]]) -> Mapping[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for thread_id, namespace, checkpoint_id in members:
        groups.setdefault((thread_id, namespace), []).append(checkpoint_id)
    return groups


def all_ids(place: Place, *, from_id: str = "") -> Plan[list[str]]:
    """All ids of a namespace, or all from one on, newest first."""
    ids: list[str] = []
    while True:
        highest = f"({ids[-1]}" if ids else "+"
        [some] = yield [reading.checkpoint_ids(place, highest, f"[{from_id}" if from_id else "-", READ_BATCH)]
        ids.extend(some)
        if len(some) < READ_BATCH:
            return ids


def _records(place: Place, ids: Sequence[str], *, metadata: bool = False) -> Plan[list[Record]]:
    found: list[Record] = []
    for some in batches(ids, READ_BATCH):
        found.extend((yield calls.records(place, some, metadata=metadata)))
    return found


def _drop(
    place: Place, dropped: Sequence[Record], fence: Fence | None, heirs: Mapping[str, str] = MappingProxyType({})
) -> Plan[None]:
    """``heirs``: of runs that keep some, the oldest of those, which stand in their indexes for what is removed."""
    for some in batches(dropped):
        yield [calls.drop_checkpoints(place, some, heirs, fence=fence)]


def _drop_loose(keys: Keys, thread_id: str, loose: Sequence[tuple[str, str]], fence: Fence | None) -> Plan[None]:
    for some in batches(loose):
        places = [(place_of(keys, thread_id, namespace), checkpoint_id) for namespace, checkpoint_id in some]
        yield [calls.drop_loose(places, fence=fence)]


def _tidy(keys: Keys, place: Place, fence: Fence | None) -> Plan[None]:
    """After a namespace lost some checkpoints: drop what the rest does not need, or all when there is no rest."""
    [empty, loose] = yield [calls.forget_namespace(place, fence=fence), calls.loose_members(place)]
    if empty:
        own = [(namespace, checkpoint_id) for namespace, checkpoint_id in loose if namespace == place.namespace]
        yield from _drop_loose(keys, place.thread_id, own, fence)
    else:
        yield from _sweep(place, fence)


def _sweep(place: Place, fence: Fence | None) -> Plan[None]:
    """Remove channel values that no checkpoint of the namespace needs.

    They are listed before the checkpoints are read: what is stored in the meantime is not on the list, and a
    checkpoint that is put in the meantime needs no more of the list than its parent, which is read.
    """
    [fields] = yield [calls.channel_fields(place)]
    unneeded = set(fields)
    for some in batches((yield from all_ids(place)), READ_BATCH):
        for record in (yield calls.records(place, some, metadata=False)):
            versions = decode_versions(record.versions).items()
            unneeded.difference_update(f"{channel}\0{version}".encode() for channel, version in versions)
    for batch in batches(sorted(unneeded)):
        yield [calls.drop_channels(place, batch, fence=fence)]


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
