"""What a run saves, in parts, and the one script that saves them: all of them or, without the lease, none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard.engine.store.client import Arg, Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.scripts import script


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to save: ``checkpoint``, ``writes``, ``events`` or ``records``, as the library of save.lua wants it."""

    name: str
    keys: tuple[str, ...]
    args: tuple[Arg, ...]


def save(fence: Fence | None, parts: Sequence[Part]) -> Call[None]:
    """Save ``parts`` in their order. Without a fence nothing is checked, and only checkpoints and writes may be saved.

    Raises LeaseLost.
    """
    keys = [fence.key if fence is not None else parts[0].keys[0]]
    words: list[Arg] = [fence.field, fence.value] if fence is not None else ["", ""]
    for part in parts:
        keys += part.keys
        words += (part.name, len(part.keys), len(part.args), *part.args)
    return Call(script("save"), tuple(keys), tuple(words), _nothing)


def part_names(call: Call[Any]) -> list[str]:
    """The names of the parts that a call of :func:`save` saves, in order."""
    names, at = [], 2
    while at < len(call.args):
        names.append(str(call.args[at]))
        at += 3 + int(call.args[at + 2])
    return names


def _nothing(_: Any) -> None:
    return None
