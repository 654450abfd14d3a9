"""What ``runyard up`` writes: the children's lines behind their names, its own words between them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import TextIO

_COLOURS = (36, 33, 35, 32, 34, 31)
_SELF = "runyard"


class Terminal:
    """Lines to ``stream`` as ``12:00:00 worker | …``; coloured at a terminal, unless NO_COLOR is set."""

    def __init__(self, stream: TextIO, names: Sequence[str]) -> None:
        self._stream = stream
        self._width = max(len(name) for name in [*names, _SELF])
        coloured = stream.isatty() and "NO_COLOR" not in os.environ
        self._colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)} if coloured else {}

    def show(self, name: str, line: str) -> None:
        """One line of a child's output."""
        prefix = f"{time.strftime('%H:%M:%S')} {name:<{self._width}} |"
        if colour := self._colours.get(name):
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self._write(f"{prefix} {line}\n")

    def say(self, words: str) -> None:
        """One line of our own."""
        self.show(_SELF, words)

    def _write(self, text: str) -> None:
        # A terminal that was closed, or a pipe nobody reads, must not stop the processes.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
