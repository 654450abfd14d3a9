"""What ``runyard up`` writes: the children's lines behind their names, its own words between them.

Where the log is to be JSON, its lines are: the children's as they are, with the name of the process in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

_COLOURS = (36, 33, 35, 32, 34, 31)
_SELF = "runyard"


class Terminal:
    """Lines to ``stream`` as ``12:00:00 worker | …``; coloured at a terminal, unless NO_COLOR is set. ``as_json``:
    as ``{"process":"worker", …}``."""

    def __init__(self, stream: TextIO, names: Sequence[str], *, as_json: bool = False) -> None:
        self._stream, self._as_json = stream, as_json
        self._width = max(len(name) for name in [*names, _SELF])
        coloured = stream.isatty() and "NO_COLOR" not in os.environ
        self._colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)} if coloured else {}

    def show(self, name: str, line: str) -> None:
        """One line of a child's output."""
        if self._as_json:
            self._write(f"{_with_process(name, line)}\n" if line else "")
            return
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


def _with_process(name: str, line: str) -> str:
    """A line of JSON with the name of its process put first; what is none becomes one."""
    if line.startswith('{"'):
        return f'{{"process":"{name}",{line[1:]}'
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return json.dumps({"process": name, "event": line, "level": "info", "timestamp": now}, ensure_ascii=False)
