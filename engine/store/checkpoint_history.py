"""What DeltaChannels are rebuilt from: the writes of a checkpoint's ancestors, back to the last stored value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from runyard.engine.store import checkpoint_calls as calls
from runyard.engine.store.checkpoint_calls import Place
from runyard.engine.store.checkpoints import decode_writes
from runyard.engine.store.plans import Plan
from runyard.engine.store.serde import decode

#: Ancestors visited by one script.
STRIDE = 200


def delta_history(
    serde: SerializerProtocol, place: Place, checkpoint_id: str | None, channels: Sequence[str]
) -> Plan[Mapping[str, DeltaChannelHistory]]:
    """For each channel its writes on the way from ``seed`` (the nearest ancestor's stored value) to the checkpoint.

    Only ancestors count, not what else the thread holds, and not the checkpoint's own pending writes. Nothing but the
    writes of these channels, and one value for each, is read.
    """
    newest_first: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    start, at = "from", checkpoint_id or ""
    while wanted := [channel for channel in newest_first if channel not in seeds]:
        [reply] = yield [calls.walk_ancestors(place, start, at, STRIDE, wanted)]
        for writes, values in reply[1]:
            pairs = zip(writes[::2], writes[1::2], strict=True)
            for write in reversed(decode_writes(serde, pairs)):
                newest_first[write[1]].append(write)
            for channel, value in zip(values[::2], values[1::2], strict=True):
                seeds[channel.decode()] = decode(serde, value)
        start, at = "at", reply[0].decode()
        if not at:
            break
    return {channel: _history(writes, channel, seeds) for channel, writes in newest_first.items()}


def _history(newest_first: list[PendingWrite], channel: str, seeds: Mapping[str, Any]) -> DeltaChannelHistory:
    history = DeltaChannelHistory(writes=newest_first[::-1])
    if channel in seeds:
        history["seed"] = seeds[channel]
    return history
