"""Copying the checkpoints of a thread to another, which may live in another partition."""

from __future__ import annotations

from collections.abc import Sequence

from runyard.engine.store import checkpoint_calls as reading, checkpoint_upkeep_calls as calls
from runyard.engine.store.checkpoint_calls import Place, place_of
from runyard.engine.store.checkpoint_upkeep import all_ids, batches
from runyard.engine.store.checkpoints import resealed
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import Plan

#: Checkpoints, or channel values, in one round trip: both travel whole.
BATCH = 50


def copy_thread(keys: Keys, source_id: str, target_id: str, *, fence: Fence | None) -> Plan[None]:
    """Copy what the source holds now: all namespaces and checkpoints with their writes, and the values they need.

    Added to what the target has. A crash leaves a target that is complete as far as it goes (its oldest part), and
    repeating the copy completes it. The copies belong to no run: deleting the runs of the source leaves them alone.
    ``fence`` is one of the target.
    """
    if source_id == target_id:
        return
    [names] = yield [reading.namespaces(place_of(keys, source_id, ""))]
    for name in names:
        source, target = place_of(keys, source_id, name), place_of(keys, target_id, name)
        # first the ids, then the values: these are then complete for all those checkpoints
        ids = yield from all_ids(source)
        yield from _copy_channels(source, target, fence)
        yield from _copy_checkpoints(source, target, ids[::-1], fence)


def _copy_channels(source: Place, target: Place, fence: Fence | None) -> Plan[None]:
    [fields] = yield [calls.channel_fields(source)]
    for some in batches(fields, BATCH):
        [values] = yield [calls.channel_values(source, some)]
        kept = zip(some, values, strict=True)
        flat = [word for field, value in kept if value is not None for word in (field, target.seal(value))]
        yield [calls.restore_channels(target, flat, fence=fence)]


def _copy_checkpoints(source: Place, target: Place, ids: Sequence[str], fence: Fence | None) -> Plan[None]:
    for some in batches(ids, BATCH):
        found = yield [calls.everything(source, checkpoint_id) for checkpoint_id in some]
        restored = [
            calls.restore_checkpoint(target, checkpoint_id, _without_run(target, flat), fence=fence)
            for checkpoint_id, flat in zip(some, found, strict=True)
            if flat
        ]
        yield restored


def _without_run(target: Place, flat: Sequence[bytes]) -> list[bytes]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [word for field, value in pairs if field != b"r" for word in (field, resealed(target, field, value))]
