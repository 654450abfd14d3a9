"""How much the checkpoints of a thread take in the store, by what they are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from runyard.engine.store import checkpoint_calls as reading, checkpoint_upkeep_calls as upkeep
from runyard.engine.store.checkpoint_calls import place_of
from runyard.engine.store.checkpoint_upkeep import all_ids, batches
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import Plan


@dataclass(slots=True)
class Share:
    """How many of a kind there are, and the bytes of their values as they are kept: compressed and encrypted."""

    count: int = 0
    bytes: int = 0

    def add(self, count: int, size: int) -> None:
        self.count += count
        self.bytes += size


@dataclass(frozen=True, slots=True)
class Storage:
    checkpoints: Share = field(default_factory=Share)
    writes: Share = field(default_factory=Share)
    #: By channel: one for each version whose value is kept.
    channels: defaultdict[str, Share] = field(default_factory=lambda: defaultdict(Share))


def storage_of(keys: Keys, thread_id: str) -> Plan[Storage]:
    """Measure a thread, subgraphs included. Checkpoints that come or go meanwhile may be left out or counted."""
    found = Storage()
    root = place_of(keys, thread_id, "")
    [names, loose] = yield [reading.namespaces(root), upkeep.loose_members(root)]
    hashes = [place_of(keys, thread_id, namespace).checkpoint(checkpoint_id) for namespace, checkpoint_id in loose]
    for name in names:
        place = place_of(keys, thread_id, name)
        hashes += [place.checkpoint(checkpoint_id) for checkpoint_id in (yield from all_ids(place))]
        [[channels]] = yield [upkeep.sizes([place.channels])]
        for stored, size in channels:
            found.channels[stored.partition(b"\0")[0].decode()].add(1, size)
    for some in batches(hashes):
        [told] = yield [upkeep.sizes(some)]
        for fields in told:
            _count(found, fields)
    return found


def _count(found: Storage, fields: Sequence[tuple[bytes, int]]) -> None:
    """Add one checkpoint, or only the writes that arrived before it."""
    writes = list(_writes(fields))
    found.writes.add(len(writes), sum(writes))
    own = [(name, size) for name, size in fields if name[:1] not in b"wx"]
    if any(name == b"f" for name, _ in own):
        found.checkpoints.add(1, sum(size for _, size in own))


def _writes(fields: Sequence[tuple[bytes, int]]) -> Iterator[int]:
    return (size for name, size in fields if name[:1] in b"wx")
