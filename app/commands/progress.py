"""From a run's events to what a person follows: which nodes ran, how long, what they said, what was decided.

No I/O and no clock: instants come with the events, so a run that ended long ago is told like one that runs now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

#: What a run must be asked to stream for a Progress to say everything.
STREAM_MODES = ["tasks", "updates", "custom"]


@dataclass
class Row:
    """All executions of one node in one superstep."""

    node: str
    started_ms: int
    running: int = 0
    ended: int = 0
    ended_ms: int = 0
    error: str = ""
    waits: bool = False
    notes: list[str] = field(default_factory=list)
    #: The nodes that a conditional edge of this one chose.
    decision: str = ""

    @property
    def count(self) -> int:
        return self.running + self.ended

    @property
    def took_ms(self) -> int:
        return self.ended_ms - self.started_ms


class Progress:
    """Feed it a run's events in order; ``rows`` is the story so far.

    ``deciding`` names the nodes whose next node is a decision (conditional edges). An execution that is told twice
    (a superstep that is taken up again, or runs on several workers) is counted once.
    """

    def __init__(self, deciding: Collection[str] = ()) -> None:
        self.rows: list[Row] = []
        self.finished = False
        self._deciding = frozenset(deciding)
        self._known: dict[str, Row] = {}
        self._ended: set[str] = set()
        self._step: list[Row] = []
        #: How many rows the superstep before it has.
        self._before = 0
        #: The rows whose decision this superstep is.
        self._asked: list[Row] = []

    def take(self, name: str, data: Any, at_ms: int) -> None:
        """One event: its SSE name, its decoded data, its instant. Events of subgraphs are left out."""
        if name == "tasks":
            (self._start if "triggers" in data else self._end)(data, at_ms)
        elif name == "custom":
            self._note(data)
        elif name in ("end", "error"):
            self._finish()

    def running(self) -> list[Row]:
        return [row for row in self._step if row.running]

    def settled(self, after: int) -> Iterator[Row]:
        """The rows from number ``after`` on of which nothing more will come."""
        until = len(self.rows)
        if not self.finished:
            until -= len(self._step)
            if not any(row.ended for row in self._step):  # its starts are still being told: the decision may grow
                until -= self._before
        yield from self.rows[after:until]

    def _start(self, task: dict[str, Any], at_ms: int) -> None:
        if task["id"] in self._known:
            return
        if not self.running():
            self._before = len(self._step)
            self._asked, self._step = [row for row in self._step if row.node in self._deciding], []
        row = next((row for row in self._step if row.node == task["name"]), None)
        if row is None:
            row = Row(task["name"], at_ms)
            self._step.append(row)
            self.rows.append(row)
        row.running += 1
        self._known[task["id"]] = row
        for asked in self._asked:
            asked.decision = ", ".join(map(label, self._step))

    def _end(self, task: dict[str, Any], at_ms: int) -> None:
        row = self._known.get(task["id"])
        if row is None or task["id"] in self._ended:
            return
        self._ended.add(task["id"])
        row.running, row.ended, row.ended_ms = row.running - 1, row.ended + 1, at_ms
        row.error = row.error or str(task.get("error") or "")
        row.waits = row.waits or bool(task.get("interrupts"))

    def _note(self, data: Any) -> None:
        if self.rows:
            (self.running() or self.rows)[-1].notes.append(words(data))

    def _finish(self) -> None:
        self.finished = True
        for row in self._step:
            if row.node in self._deciding and row.ended and not (row.error or row.waits or row.decision):
                row.decision = "end"


def label(row: Row) -> str:
    return row.node if row.count == 1 else f"{row.node} ×{row.count}"


def words(data: Any) -> str:
    """A custom event as one line: the text it carries, else its JSON."""
    text = data.get("progress") if isinstance(data, dict) and len(data) == 1 else data
    return text if isinstance(text, str) else orjson.dumps(data).decode()


def instant_of(event_id: str) -> int:
    """The ms since the epoch that an event's id begins with."""
    return int(event_id.partition("-")[0])
