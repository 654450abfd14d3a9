"""The Lua scripts: one file, one transition. Loaded from the package as text, sent by their SHA-1.

``--@include name`` on a line of its own puts ``lib_name.lua`` there, so that the lease check and the hand-over to the
next run of a thread are written once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's name, full text and the SHA-1 by which the server knows it."""

    name: str
    source: str
    sha: str


def _text(name: str) -> str:
    return (resources.files("runyard.engine.store") / f"{name}.lua").read_text(encoding="utf-8")


@cache
def script(name: str) -> Script:
    """The script in ``<name>.lua``, includes resolved."""
    source = _INCLUDE.sub(lambda match: _text(f"lib_{match[1]}"), _text(name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@cache
def all_scripts() -> tuple[Script, ...]:
    """Every script there is, by name."""
    files = (item.name for item in resources.files("runyard.engine.store").iterdir())
    names = sorted(name.removesuffix(".lua") for name in files if name.endswith(".lua"))
    return tuple(script(name) for name in names if not name.startswith("lib_"))
