"""What runs came to, where that is large: kept once, by their thread, and not in the `end` of each.

The `end` of such a run says that the thread has its result. Until the next change of the thread's values that is what
the thread shows. Then the script that shows the new values keeps those before as what makes them from the new ones,
so that a turn of a long conversation costs what it has added; as they are, where nobody has made that. A result is so
kept until it has been replaced for as long as events are kept, whatever becomes of checkpoints and other runs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard

from runyard.engine import wire
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

#: From so many bytes of JSON on a result is kept by its thread.
LARGE = 8192
#: Where two values differ in more than this, what differs is written by way of the other value.
_MUCH = 1024
_LENGTHS = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Shown:
    """Values that a thread shows, as JSON, and the run whose result they are; '' where no `end` refers to them."""

    run_id: str
    values: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """That a result is its thread's to keep. ``back`` makes the values of ``before`` from it; empty: nobody's."""

    before: str = ""
    back: bytes = b""


def shown(keys: Keys, thread_id: str) -> Call[Shown]:
    def parse(reply: Sequence[bytes | None]) -> Shown:
        return Shown((reply[0] or b"").decode(), wire.unpack_json(reply[1]) if reply[1] else b"")

    return Call.command("HMGET", keys.of_thread(thread_id).thread(thread_id), "values_of", "values", parse=parse)


def kept(keys: Keys, thread_id: str, values: bytes, before: Shown) -> Kept:
    """How ``values`` are to be kept by a thread that has shown others before."""
    if not before.run_id:
        return Kept()
    return Kept(before.run_id, keys.seal(way_back(values, before.values), thread_id))


def left_by(keys: Keys, thread_id: str, run_id: str) -> Call[bytes | None]:
    """The values as JSON that a run left, if its thread has them still."""

    def parse(reply: Sequence[bytes]) -> bytes | None:
        if not reply:
            return None
        values = wire.unpack_json(reply[0])
        for back in reply[1:]:
            values = gone_back(values, back)
        return values

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
