"""What runs came to, where that is large: kept once, by their thread, and not in the `end` of each.

The `end` of such a run says that the thread has its result. Until the next change of the thread's values that is what
the thread shows. Then the script that shows the new values keeps those before as what makes them from the new ones,
so that a turn of a long conversation costs what it has added; as they are, where nobody has made that. A result is so
kept until it has been replaced for as long as events are kept, whatever becomes of checkpoints and other runs.

The new values are written as what makes them from those before, too, where that is little: to compress and write a long
conversation costs more than all else that a turn does. Every so often they are written whole.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard

from runyard.engine import wire
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.replies import as_hash
from runyard.engine.store.scripts import script

#: From so many bytes of JSON on a result is kept by its thread.
LARGE = 8192
#: Values are written whole again after so many edits, and where an edit is more than one part in so many of them.
MOST_EDITS, SMALL = 32, 16
#: Where two values differ in more than this, what differs is written by way of the other value.
_MUCH = 1024
_LENGTHS = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Shown:
    """Values that a thread shows, as JSON, and the run whose result they are; '' where no `end` refers to them.

    ``edits``: how many of them follow what the store holds whole.
    """

    run_id: str
    values: bytes
    edits: int = 0

    @property
    def mark(self) -> tuple[str, int]:
        """What tells these from all that the thread has shown and will show."""
        return self.run_id, self.edits


@dataclass(frozen=True, slots=True)
class Kept:
    """That a result is its thread's to keep. ``back`` makes the values of ``before`` from it; empty: nobody's.

    ``edit`` makes it from those values, and is the ``number``-th since they were written whole; empty: write it whole.
    """

    before: str = ""
    back: bytes = b""
    edit: bytes = b""
    number: int = 0


def mark(keys: Keys, thread_id: str) -> Call[tuple[str, int]]:
    """The mark of what a thread shows."""
    words = ("HMGET", keys.of_thread(thread_id).thread(thread_id), "values_of", "edits")
    return Call.command(*words, parse=lambda reply: ((reply[0] or b"").decode(), int(reply[1] or 0)))


def shown(keys: Keys, thread_id: str) -> Call[Shown]:
    def parse(reply: Any) -> Shown:
        fields = as_hash(reply)
        return Shown(fields.get("values_of", b"").decode(), values_in(fields), int(fields.get("edits") or 0))

    return Call.command("HGETALL", keys.of_thread(thread_id).thread(thread_id), parse=parse)


def values_in(fields: Mapping[str, bytes]) -> bytes:
    """The JSON of the values that a thread shows, or that its webhook is told, from the hash of either."""
    values = wire.unpack_json(fields["values"]) if fields.get("values") else b""
    return _edited(values, [fields[f"values:{number}"] for number in range(1, int(fields.get("edits") or 0) + 1)])


def _edited(values: bytes, edits: Sequence[bytes]) -> bytes:
    for edit in edits:
        values = gone_back(values, edit)
    return values


def kept(keys: Keys, thread_id: str, values: bytes, before: Shown) -> Kept:
    """How ``values`` are to be kept by a thread that has shown others before."""
    if not before.run_id:
        return Kept()
    back, edit = keys.seal(way_back(values, before.values), thread_id), way_back(before.values, values)
    if before.edits == MOST_EDITS or len(edit) * SMALL > len(values):
        return Kept(before.run_id, back)
    return Kept(before.run_id, back, edit, before.edits + 1)


def left_by(keys: Keys, thread_id: str, run_id: str) -> Call[bytes | None]:
    """The values as JSON that a run left, if its thread has them still."""

    def parse(reply: Sequence[Any]) -> bytes | None:
        if not reply:
            return None
        values, edits, way = reply
        return _edited(_edited(wire.unpack_json(values), edits), way)

    at = keys.of_thread(thread_id)
    return Call(script("read_result"), (at.thread(thread_id), at.thread_results(thread_id)), (run_id,), parse)


def way_back(new: bytes, old: bytes) -> bytes:
    """What makes ``old`` from ``new``: how much of it they share at their beginnings and ends, and what is between."""
    begin = _shared(new, old)
    end = _shared(new[begin:][::-1], old[begin:][::-1])
    between = old[begin : len(old) - end]
    if len(between) <= _MUCH:
        return _LENGTHS.pack(begin, end) + b"j" + between
    window = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=max(10, math.ceil(math.log2(len(new) + len(between)))), enable_ldm=True
    )
    packed = zstandard.ZstdCompressor(dict_data=_beside(new), compression_params=window).compress(between)
    return _LENGTHS.pack(begin, end) + b"z" + packed


def gone_back(new: bytes, back: bytes) -> bytes:
    """``old`` of :func:`way_back`."""
    begin, end = _LENGTHS.unpack_from(back)
    kind, between = back[_LENGTHS.size : _LENGTHS.size + 1], back[_LENGTHS.size + 1 :]
    if kind == b"z":
        between = zstandard.ZstdDecompressor(dict_data=_beside(new), max_window_size=2**31).decompress(between)
    return b"".join((new[:begin], between, new[len(new) - end :]))


def _beside(new: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(new, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes two values have in common from their beginning on."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
