"""What a measure of growth finds: numbers beside their goals, and points of curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number. ``count``: of how many runs, requests or readings it is made."""

    name: str
    title: str
    value: float
    unit: str
    count: int
    goal: float | None = None
    better: Literal["higher", "lower"] = "lower"

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "value": round(self.value, 4), "unit": self.unit,
            "count": self.count, "goal": self.goal, "better": self.better, "met": self.met,
        }  # fmt: skip


@dataclass(slots=True)
class Found:
    """``curves``: by name, each point's ``x`` and what was measured there. ``conditions``: needed to read both."""

    numbers: list[Number] = field(default_factory=list)
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)

    def add(self, name: str, title: str, value: float, unit: str, *, count: int, **goal: Any) -> None:
        self.numbers.append(Number(name=name, title=title, value=value, unit=unit, count=count, **goal))

    def point(self, curve: str, x: float, found: Mapping[str, float]) -> None:
        rounded = {name: round(value, 4) for name, value in found.items()}
        self.curves.setdefault(curve, []).append({"x": x, **rounded})


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured; every loop is bounded by a count or a time."""

    #: Finished runs that are kept while listings are measured.
    kept: tuple[int, ...]
    #: Finished runs between two closed loops, and how long each of these takes.
    finished: int
    loop_s: float
    #: Runs that wait on a slow call at once, and how long that takes.
    waiting: int
    wait_s: float
    #: Turns of a thread; a window of so many at its beginning and end is compared.
    turns: int
    window: int
    tokens: int
    #: Readers of so many runs, beside runs that start at so many a second.
    readers: int
    read_runs: int
    runs_s: float
    #: About how long a point of a curve takes.
    point_s: float
    nodes: tuple[int, ...]
    state_kb: tuple[int, ...]
    widths: tuple[int, ...]
    clients: tuple[int, ...]
    workers: tuple[int, ...]
    #: Fan-outs that are timed on each side, and how many workers share the branches of others.
    spread: int
    away_workers: tuple[int, ...]
    #: Simulated seconds of a point.
    simulated_s: float


FULL = Size(
    kept=(1_000, 5_000, 20_000, 100_000), finished=20_000, loop_s=8.0, waiting=5_000, wait_s=60.0, turns=1_000,
    window=100, tokens=200, readers=1_000, read_runs=50, runs_s=100.0, point_s=3.0, nodes=(1, 3, 10, 30, 100),
    state_kb=(0, 1, 10, 100, 1_000), widths=(1, 10, 30, 100, 300), clients=(1, 2, 4, 8, 16, 32, 64, 128),
    workers=(1, 2, 3, 4), spread=20, away_workers=(1, 2, 4), simulated_s=4.0,
)  # fmt: skip
QUICK = Size(
    kept=(200, 1_000), finished=400, loop_s=1.5, waiting=60, wait_s=3.0, turns=40, window=10, tokens=20, readers=40,
    read_runs=4, runs_s=15.0, point_s=0.5, nodes=(1, 10), state_kb=(0, 10), widths=(1, 10), clients=(1, 8),
    workers=(1, 2), spread=3, away_workers=(1, 2), simulated_s=1.0,
)  # fmt: skip
