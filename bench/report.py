"""From numbers to what is shown and kept: the table, the ratios, ``latest.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Number
from bench.measures import BASES, CONTENDER, CONTENDERS, MEASURE, MEASURES, RUNYARD, Contender, Measure

#: Raised when a field of latest.json changes its meaning.
SCHEMA = 1

#: measure -> contender -> number
Grid = Mapping[str, Mapping[str, Number]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """``contender`` is ``ratio`` times as good as ``to``: as fast, or as quick to answer."""

    measure: str
    contender: str
    to: str
    ratio: float


def grid_of(numbers: Iterable[Number]) -> Grid:
    grid: dict[str, dict[str, Number]] = {}
    for number in numbers:
        grid.setdefault(number.measure, {})[number.contender] = number
    return grid


def ratio(measure: Measure, value: float, base: float) -> float | None:
    """How many times as good ``value`` is as ``base``: above 1 is better, whichever way the measure counts."""
    if value <= 0 or base <= 0:
        return None
    return value / base if measure.better == "higher" else base / value


def ratios(grid: Grid, bases: Sequence[Contender] = BASES) -> list[Ratio]:
    """Every contender to every base that has the measure too."""
    found = []
    for name, row in grid.items():
        for contender, number in row.items():
            for base in bases:
                if base.name == contender or base.name not in row:
                    continue
                value = ratio(MEASURE[name], number.value, row[base.name].value)
                if value is not None:
                    found.append(Ratio(name, contender, base.name, round(value, 3)))
    return found


def goals(grid: Grid) -> list[dict[str, Any]]:
    """Where Runyard with everything on disk stands beside what design.md wants."""
    return [
        {
            "measure": measure.name,
            "goal": measure.goal,
            "value": row.value,
            "met": _met(measure, measure.goal, row.value),
        }
        for measure in MEASURES
        if measure.goal is not None and (row := grid.get(measure.name, {}).get(RUNYARD.name)) is not None
    ]


def _met(measure: Measure, goal: float, value: float) -> bool:
    return value >= goal if measure.better == "higher" else value <= goal


def document(
    numbers: Sequence[Number], *, quick: bool, started_at: str, took_s: float, machine: Mapping[str, Any],
    versions: Mapping[str, str], source: Mapping[str, Any], conditions: Sequence[str], failures: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """``latest.json``."""
    grid = grid_of(numbers)
    return {
        "schema": SCHEMA,
        "quick": quick,
        "started_at": started_at,
        "took_s": round(took_s, 1),
        "source": dict(source),
        "machine": dict(machine),
        "versions": dict(versions),
        "conditions": list(conditions),
        "contenders": {c.name: {"title": c.title, "durability": c.durability} for c in CONTENDERS},
        "numbers": [_number(number) for number in numbers],
        "ratios": [
            {"measure": r.measure, "contender": r.contender, "to": r.to, "ratio": r.ratio} for r in ratios(grid)
        ],
        "goals": goals(grid),
        "failures": dict(failures),
    }


def _number(number: Number) -> dict[str, Any]:
    measure = MEASURE[number.measure]
    return {
        "contender": number.contender,
        "measure": number.measure,
        "value": round(number.value, 3),
        "unit": measure.unit,
        "better": measure.better,
        "count": number.count,
        "durability": CONTENDER[number.contender].durability,
        "detail": number.detail,
    }


def write(path: Path, made: Mapping[str, Any]) -> None:
    """Whole or not at all: a bench that is interrupted leaves the last one as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


def shown(value: float) -> str:
    """Three significant digits, and no more decimals than help."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
