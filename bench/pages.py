"""The tables of docs/performance.md that come from ``growth.json``, each between two comments that name it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.report import shown

Document = Mapping[str, Any]
#: In this order; the measure `curves` is shown by its plots, `paper` has tables of its own.
TOLD = ("tokens", "readers", "finished", "turns", "kept", "calls")


def fill(page: str, document: Document) -> str:
    """The page with every table anew. Raises ValueError for a table that nobody knows."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"bench:{name}: there is no such table; these are: {', '.join(TABLES)}")
        return f"<!-- bench:{name} -->\n{TABLES[name](document)}\n<!-- /bench:{name} -->"

    return re.sub(r"<!-- bench:(\w+) -->.*?<!-- /bench:\1 -->", table, page, flags=re.DOTALL)


def growth(document: Document) -> str:
    """Every number that is measured, its goal beside it."""
    rows = [("", "measured", "goal", "")]
    for name in TOLD:
        for number in _numbers(document, name):
            sign = "≥" if number["better"] == "higher" else "≤"
            goal = f"{sign} {shown(number['goal'])}" if number["goal"] is not None else "–"
            met = "" if number["met"] is None else "met" if number["met"] else "not met"
            rows.append((number["title"].strip(), f"{shown(number['value'])} {number['unit']}".strip(), goal, met))
    return _table(rows)


def conditions(document: Document) -> str:
    """What each measure was made on, and how."""
    lines = []
    for name, measure in document["measures"].items():
        machine = measure["machine"]
        made = f"commit {measure['source']['commit']}, load before {machine['load_1m_before']}"
        lines.append(f"- `{name}` ({made}): {' '.join(measure['conditions'])}")
    return "\n".join(lines)


def simulated(document: Document) -> str:
    """The curves that the simulation was not told, beside what it makes of them."""
    rows = [("", "runs/s measured", "simulated", "off by", "p50 measured, ms", "simulated, ms", "off by")]
    for name, word in (("clients", "clients, 2 workers"), ("workers", "workers, 32 clients")):
        points = document["measures"]["paper"]["curves"][f"simulated_{name}"]
        rows += [(f"{point['x']:g} {word}", *_beside(point, "runs_s"), *_beside(point, "p50_ms")) for point in points]
    return _table(rows)


def _beside(point: Mapping[str, float], key: str) -> tuple[str, str, str]:
    return shown(point[f"measured_{key}"]), shown(point[key]), f"{100 * point[f'{key}_off']:+.0f} %"


def paper(document: Document) -> str:
    """What the simulation says of what is not at hand, and the costs that it was told."""
    rows = [("", "")]
    for number in _numbers(document, "paper"):
        title = f"`{number['title']}`" if number["name"].startswith("cost_") else number["title"]
        rows.append((title, f"{shown(number['value'])} {number['unit']}".strip()))
    return _table(rows)


TABLES: dict[str, Callable[[Document], str]] = {
    "growth": growth, "conditions": conditions, "simulated": simulated, "paper": paper
}  # fmt: skip


def _numbers(document: Document, name: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = document["measures"].get(name, {}).get("numbers", ())
    return found


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])
