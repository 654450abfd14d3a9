"""The table a person reads in the terminal: measures down, contenders across, durability above every column."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from bench.measures import BASES, CELERY, CONTENDERS, FLOOR, MEASURES, MEMORY, RUNYARD, Contender, Measure
from bench.report import Grid, ratio, shown

_LABEL, _CELL = 38, 12
_BASE_NAMES = {FLOOR.name: "no saver", MEMORY.name: "memory", CELERY.name: "Celery"}


def table(grid: Grid) -> str:
    """Numbers, then how many times as good Runyard is as each of the others."""
    present = [c for c in CONTENDERS if any(c.name in row for row in grid.values())]
    rows = [measure for measure in MEASURES if measure.name in grid]
    lines = [*_head(present), _rule(present)]
    lines += [_row(_label(measure), [_cell(grid, measure, c) for c in present]) for measure in rows]
    if RUNYARD in present and (against := [base for base in BASES if base in present]):
        lines += ["", *_ratios(grid, rows, against)]
    return "\n".join(lines)


def goals_text(goals: Iterable[Mapping[str, object]]) -> str:
    """One line for each goal that was measured."""
    titles = {measure.name: measure for measure in MEASURES}
    lines = []
    for goal in goals:
        measure = titles[str(goal["measure"])]
        sign = ">=" if measure.better == "higher" else "<="
        wanted = f"{sign} {shown(float(str(goal['goal'])))} {measure.unit}"
        mark = "met" if goal["met"] else "NOT YET"
        lines.append(
            f"  {measure.title:<{_LABEL - 2}}{shown(float(str(goal['value']))):>{_CELL}}   goal {wanted:<16}{mark}"
        )
    return "\n".join(["Goals", *lines]) if lines else ""


def _head(present: Sequence[Contender]) -> list[str]:
    titles = [textwrap.wrap(c.title, _CELL - 1) for c in present]
    depth = max((len(title) for title in titles), default=0)
    padded = [[""] * (depth - len(title)) + title for title in titles]
    rows = [_row("", [title[line] for title in padded]) for line in range(depth)]
    return [*rows, _row("what is saved", [c.short_durability for c in present])]


def _rule(present: Sequence[Contender]) -> str:
    return "-" * (_LABEL + _CELL * len(present))


def _row(label: str, cells: Iterable[str]) -> str:
    return f"{label:<{_LABEL}}" + "".join(f"{cell:>{_CELL}}" for cell in cells)


def _label(measure: Measure) -> str:
    return f"{measure.title}, {measure.unit}"


def _cell(grid: Grid, measure: Measure, contender: Contender) -> str:
    number = grid[measure.name].get(contender.name)
    return shown(number.value) if number else "-"


def _ratios(grid: Grid, rows: Sequence[Measure], against: Sequence[Contender]) -> list[str]:
    """For each measure how many times as good Runyard is as each base that has it."""
    lines = [
        "Runyard with everything on disk is so many times as good (above 1: better) as",
        _row("", [_BASE_NAMES[base.name] for base in against]),
    ]
    for measure in rows:
        row = grid[measure.name]
        if RUNYARD.name in row and any(base.name in row for base in against):
            own = row[RUNYARD.name].value
            found = [ratio(measure, own, row[base.name].value) if base.name in row else None for base in against]
            lines.append(_row(measure.title, ["-" if value is None else f"{shown(value)} x" for value in found]))
    return lines
