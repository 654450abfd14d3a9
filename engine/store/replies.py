"""What the driver answers for a hash and for a sorted set, in whichever form it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Flat = Sequence[bytes]


def from_flat(pairs: Flat) -> dict[str, bytes]:
    """A hash that a script answers: field and value in turn."""
    return {pairs[i].decode(): pairs[i + 1] for i in range(0, len(pairs), 2)}


def as_hash(reply: Any) -> dict[str, bytes]:
    """HGETALL answers a mapping over RESP3 and in a client that converts, else a flat list."""
    if isinstance(reply, Mapping):
        return {key.decode(): value for key, value in reply.items()}
    return from_flat(reply)


def scored(reply: Any) -> Sequence[tuple[bytes, Any]]:
    """WITHSCORES answers pairs, or in a client that does not convert a flat list."""
    pairs = not reply or isinstance(reply[0], (list, tuple))
    return reply if pairs else list(zip(reply[::2], reply[1::2], strict=True))
