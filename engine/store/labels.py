"""Labels of threads: which of a thread's metadata can be asked for without reading threads.

Words and whole numbers at the top of the metadata are labels. Each has a set of the threads that have it, for each
partition and tenant, named by a digest of the label: two labels may share one, so whoever finds a thread there looks
whether it has what was asked for. A thread with more than MOST labels is in the set of those that have many, and in no
other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

#: So many labels of a thread are kept in sets.
MOST = 32
#: The set of threads with more than that.
MANY = "many"
#: What a thread shows of its runs under these names changes with each: they are no labels.
_SHOWN = frozenset({"graph_id", "assistant_id"})


def is_plain(value: Any) -> bool:
    """Words, and whole numbers: such as a float holds exactly, since Lua has no others, and that equal no truth."""
    return isinstance(value, str) or (isinstance(value, int) and value not in (0, 1) and abs(value) < 2**53)


def wanted(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The labels among what is asked for: name of each, and of its set."""
    return {name: _digest(name, value) for name, value in metadata.items() if name not in _SHOWN and is_plain(value)}


def of(metadata: Mapping[str, Any]) -> str:
    """The names of the sets that a thread with this metadata is in, with a space between them."""
    # Asked for 5, a thread with 5.0 is found.
    whole = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in metadata.items()
    }
    found = wanted(whole)
    return MANY if len(found) > MOST else " ".join(sorted(set(found.values())))


def _digest(name: str, value: str | int) -> str:
    kind = "n" if isinstance(value, int) else "s"
    text = f"{name}\0{kind}{value}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def are_kept(keys: Keys) -> Call[bool]:
    """Whether all threads of the store are in the sets of their labels: not of one from before there were any."""
    return Call.command("HGET", keys.meta, "labels", parse=lambda reply: reply is not None)


def find(keys: Keys, partition: int, asked: Sequence[str], *, most: int) -> Call[list[tuple[float, str]] | None]:
    """Threads of the keys' tenant that may have all of some labels: the ms of their last change, and ids, in no order.
    None: in one partition more than ``most`` have each of them."""
    at = keys.all()[partition]
    sets = (at.labels_of(keys.tenant, label) for label in (MANY, *asked))

    def parse(flat: list[bytes] | None) -> list[tuple[float, str]] | None:
        if flat is None:
            return None
        return [(float(ms), thread_id.decode()) for thread_id, ms in zip(flat[::2], flat[1::2], strict=True)]

    return Call(script("find_labelled"), (at.threads_of(keys.tenant), *sets), (most,), parse)
