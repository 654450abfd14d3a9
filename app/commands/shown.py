"""How a run looks in a terminal. Live where there is one; lines, each printed when it is final, where there is none.

``rich`` sees to NO_COLOR, to widths and to terminals that can do nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from runyard.app.commands.progress import Progress, Row, label

#: Notes of one node that are shown; a chatty node must not fill the screen.
NOTES = 5
#: Where nothing is drawn, lines are broken late: who greps wants them whole.
PIPE_WIDTH = 160
STATUS_STYLE = {"success": "green", "error": "red", "timeout": "red", "interrupted": "yellow"}


def console(*, err: bool = False) -> Console:
    """Where people read: stdout, or stderr when stdout is for a result."""
    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPE_WIDTH)


class View:
    """A Progress on a console, drawn again by ``refresh`` after every change."""

    def __init__(self, progress: Progress, out: Console) -> None:
        self._progress, self._out = progress, out
        self._printed = 0
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[View]:
        """The view for as long as the block lasts; what was drawn last stays on the screen."""
        if not self._out.is_terminal:
            yield self
            self.refresh()
            return
        with Live(console=self._out, refresh_per_second=12, get_renderable=self._picture) as self._live:
            yield self

    def refresh(self) -> None:
        if self._live is not None:
            return  # it draws by itself
        for row in self._progress.settled(self._printed):
            self._out.print(picture([row]))
            self._printed += 1

    def _picture(self) -> RenderableType:
        return picture(self._progress.rows)


def picture(rows: list[Row]) -> RenderableType:
    """Nodes with what they took, said and decided, one under the other."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(min_width=12, no_wrap=True)
    table.add_column(justify="right", min_width=7, no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(_mark(row), Text(label(row), "bold"), _took(row), _said(row))
    return Padding(table, (0, 0, 0, 2), expand=False)


def _mark(row: Row) -> RenderableType:
    if row.error:
        return Text("✘", "red")
    if row.waits:
        return Text("‖", "yellow")
    return Spinner("dots", style="cyan") if row.running else Text("✔", "green")


def _took(row: Row) -> str:
    return duration(row.took_ms) if not row.running else ""


def _said(row: Row) -> RenderableType:
    notes = [Text(note, "dim") for note in row.notes[-NOTES:]]
    if row.error:
        notes.append(Text(row.error, "red"))
    if row.waits:
        notes.append(Text("waits for an answer", "yellow"))
    if row.decision:
        decision = Text.assemble(("→ ", "cyan"), (row.decision, "cyan"))
        notes = [*notes[:-1], Text.assemble(notes[-1], "  ", decision)] if notes else [decision]
    return Group(*notes)


def duration(ms: float) -> str:
    """A span of time as people read it."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes} min {seconds} s"


def pretty(value: Any) -> str:
    """A value as indented JSON."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


def facts(rows: dict[str, RenderableType]) -> RenderableType:
    """Names and values in two columns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return Padding(table, (0, 0, 0, 2), expand=False)


def is_watched() -> bool:
    """Whether a person looks at stderr, where progress is drawn."""
    return sys.stderr.isatty()
