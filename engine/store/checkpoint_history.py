"""What DeltaChannels are rebuilt from: the writes of a checkpoint's ancestors, back to the last stored value.

Neither changes once a checkpoint has followed, so a worker keeps what it has read of its latest threads, as the bytes
that were stored: the next turn of a thread reads what came since, however long the thread is. Values are made of the
bytes each time, because a graph may change what it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from langgraph.checkpoint.base import DeltaChannelHistory
from langgraph.checkpoint.serde.base import SerializerProtocol

from runyard.engine.recent import Recent
from runyard.engine.store import checkpoint_calls as calls
from runyard.engine.store.checkpoint_calls import Place
from runyard.engine.store.checkpoints import StoredWrite, decode_write, stored_writes
from runyard.engine.store.plans import Plan
from runyard.engine.store.serde import decode

#: Ancestors visited by one script.
STRIDE = 200
#: What a kept write takes besides its bytes.
_WRITE_BYTES = 250


@dataclass(frozen=True, slots=True)
class _Known:
    """What the channels of a checkpoint are rebuilt from, as it is stored: writes oldest first."""

    checkpoint_id: str
    writes: Mapping[str, Sequence[StoredWrite]]
    seeds: Mapping[str, bytes]

    def size(self) -> int:
        writes = (len(write[2]) + _WRITE_BYTES for several in self.writes.values() for write in several)
        return sum(writes) + sum(map(len, self.seeds.values()))


def delta_history(
    serde: SerializerProtocol,
    place: Place,
    checkpoint_id: str | None,
    channels: Sequence[str],
    recent: Recent | None = None,
) -> Plan[Mapping[str, DeltaChannelHistory]]:
    """For each channel its writes on the way from ``seed`` (the nearest ancestor's stored value) to the checkpoint.

    Only ancestors count, not what else the thread holds, and not the checkpoint's own pending writes. Nothing but the
    writes of these channels, and one value for each, is read; of what is in ``recent``, nothing at all.
    """
    key = (place.prefix, *channels)
    known: _Known | None = recent.get(key) if recent is not None and checkpoint_id else None
    if known is None or known.checkpoint_id != checkpoint_id:
        known = yield from _walked(place, checkpoint_id or "", channels, known)
        if recent is not None and checkpoint_id:
            recent.put(key, known, known.size())
    return {channel: _history(serde, channel, known) for channel in channels}


def _walked(place: Place, checkpoint_id: str, channels: Sequence[str], known: _Known | None) -> Plan[_Known]:
    """Read upwards, to where each channel has a value or the rest is ``known``."""
    newest_first: dict[str, list[StoredWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, bytes] = {}
    start, at, stop = "from", checkpoint_id, known.checkpoint_id if known is not None else ""
    while wanted := [channel for channel in newest_first if channel not in seeds]:
        [reply] = yield [calls.walk_ancestors(place, start, at, stop, STRIDE, wanted)]
        for writes, values in reply[1]:
            for write in reversed(stored_writes(_pairs(writes))):
                newest_first[write[1]].append(write)
            seeds |= {channel.decode(): value for channel, value in _pairs(values)}
        start, at = "at", reply[0].decode()
        if reply[2] and known is not None:
            return _joined(checkpoint_id, newest_first, seeds, known)
        if not at:
            break
    return _Known(checkpoint_id, {channel: writes[::-1] for channel, writes in newest_first.items()}, seeds)


def _joined(
    checkpoint_id: str, newest_first: Mapping[str, list[StoredWrite]], seeds: dict[str, bytes], known: _Known
) -> _Known:
    """What was read down to a checkpoint whose history is known, and that history."""
    older = {channel: () if channel in seeds else known.writes[channel] for channel in newest_first}
    writes = {channel: [*older[channel], *newer[::-1]] for channel, newer in newest_first.items()}
    return _Known(checkpoint_id, writes, {**known.seeds, **seeds})


def _history(serde: SerializerProtocol, channel: str, known: _Known) -> DeltaChannelHistory:
    history = DeltaChannelHistory(writes=[decode_write(serde, write) for write in known.writes[channel]])
    if channel in known.seeds:
        history["seed"] = decode(serde, known.seeds[channel])
    return history


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
