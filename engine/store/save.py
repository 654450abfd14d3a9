"""What a run saves, in parts, and the script that saves them: all of them or, without the lease, none.

The script that ends a run saves what is left of them, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard.engine.store.client import Arg, Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.scripts import script


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to save: ``checkpoint``, ``writes``, ``events``, ``records`` or the run's ``fields``, as lib_save.lua
    wants it."""

    name: str
    keys: tuple[str, ...]
    args: tuple[Arg, ...]


def save(fence: Fence | None, parts: Sequence[Part]) -> Call[None]:
    """Save ``parts`` in their order. Without a fence nothing is checked, and only checkpoints and writes may be saved.

    Raises LeaseLost.
    """
    key = fence.key if fence is not None else parts[0].keys[0]
    held: tuple[Arg, ...] = (fence.field, fence.value) if fence is not None else ("", "")
    keys, words = spelled(parts)
    return Call(script("save"), (key, *keys), (*held, *words), _nothing)


def spelled(parts: Sequence[Part]) -> tuple[list[str], list[Arg]]:
    """Parts as keys and arguments for a script."""
    keys: list[str] = []
    words: list[Arg] = []
    for part in parts:
        keys += part.keys
        words += (part.name, len(part.keys), len(part.args), *part.args)
    return keys, words


def part_names(call: Call[Any]) -> list[str]:
    """The names of the parts that a call saves, in order: one of :func:`save`, or one that ends a run."""
    names: list[str] = []
    at = _FIRST.get(call.script.name, len(call.args)) if call.script else len(call.args)
    while at < len(call.args):
        names.append(str(call.args[at]))
        at += 3 + int(call.args[at + 2])
    return names


#: Where the parts begin among the arguments of the scripts that save them.
_FIRST = {"save": 2, "end_run": 18}


def _nothing(_: Any) -> None:
    return None
