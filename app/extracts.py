"""Parts of a thread that a search answers by names of the client's choice: ``values.messages[-1].content``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_PATHS = 10
ROOTS = ("values", "metadata", "interrupts", "config", "error", "status", "thread_id")

_PATH = re.compile(rf"({'|'.join(ROOTS)})(\.[^.\[\]]+|\[-?\d{{1,9}}\])*")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?\d+)\]")


def is_paths(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= MAX_PATHS and all(_is_path(path) for path in value.values())


def _is_path(path: Any) -> bool:
    return isinstance(path, str) and len(path) <= 1000 and _PATH.fullmatch(path) is not None


def extracted(facts: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """The parts that ``paths`` lead to; None where one leads nowhere."""
    return {name: _follow(facts, path) for name, path in paths.items()}


def _follow(facts: Mapping[str, Any], path: str) -> Any:
    found: Any = facts
    for key, index in _STEP.findall(f".{path}"):
        if index and isinstance(found, list) and -len(found) <= int(index) < len(found):
            found = found[int(index)]
        elif key and isinstance(found, Mapping):
            found = found.get(key)
        else:
            return None
    return found
