"""What a run saves, in parts, and the script that saves them: all of them or, without the lease, none.

The script that ends a run saves what is left of them, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from runyard.engine.store.client import Arg, Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.scripts import script


class Part(NamedTuple):
    """One thing to save: ``checkpoint``, ``writes``, ``events``, ``records`` or the run's ``fields``, as lib_save.lua
    wants it."""

    name: str
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    #: The run's hash, where the run is told something.
    run: str | None = None


def save(fence: Fence | None, parts: Sequence[Part], number: int | None = None) -> Call[None]:
    """Save ``parts`` in their order. Without a fence nothing is checked. ``number``: which save this is of those under
    this fence, from 1; without one only checkpoints and writes may be saved: nobody knows when it is sent anew.

    Raises LeaseLost.
    """
    if fence is not None:
        key, field, value = fence.key, fence.field, fence.value
    else:
        key, field, value = parts[0].keys[0], "", ""
    told = [part.run for part in parts if part.run is not None]
    keys, words = spelled(parts)
    return Call(script("save"), (key, told[0] if told else key, *keys), (field, value, number or "", *words), _nothing)


def spelled(parts: Sequence[Part]) -> tuple[list[str], list[Arg]]:
    """Parts as keys and arguments for a script."""
    keys: list[str] = []
    words: list[Arg] = [b""]
    described: list[str | int] = []
    for part in parts:
        keys += part.keys
        words += part.args
        described += (part.name, len(part.keys), len(part.args))
    words[0] = orjson.dumps(described)
    return keys, words


def part_names(call: Call[Any]) -> list[str]:
    """The names of the parts that a call saves, in order: one of :func:`save`, or one that ends a run."""
    at = _FIRST.get(call.script.name) if call.script else None
    return [] if at is None else orjson.loads(call.args[at])[::3]  # type: ignore[arg-type]


#: Where the arguments of the scripts that save parts describe them.
_FIRST = {"save": 3, "end_run": 18}


def _nothing(_: Any) -> None:
    return None
