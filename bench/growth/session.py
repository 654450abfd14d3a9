"""One session of growth: what is measured in what order, what is shown meanwhile, what is kept."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.growth import calls, curves, finished, kept, paper, readers, spread, tokens, turns
from bench.growth.found import FULL, QUICK, Found, Number, Size
from bench.machine import commit, machine, versions
from bench.measure import Tell
from bench.report import shown, write

RESULTS = Path(__file__).resolve().parents[1] / "results" / "growth.json"
#: Raised when a field of growth.json changes its meaning.
SCHEMA = 1

Measure = Callable[[Size, Tell], Found]
MEASURES: dict[str, Measure] = {
    "tokens": tokens.measure, "readers": readers.measure, "curves": curves.measure, "finished": finished.measure,
    "turns": turns.measure, "kept": kept.measure, "calls": calls.measure, "spread": spread.measure,
}  # fmt: skip
#: What is worked out from the curves.
PAPER = "paper"
NAMES = (*MEASURES, PAPER)


def main(options: argparse.Namespace) -> int:
    """0 when everything wanted was measured, 1 when something failed, 2 for a word that names nothing."""
    wanted = [name for name in NAMES if not options.only or any(name.startswith(word) for word in options.only)]
    if unknown := [word for word in options.only if not any(name.startswith(word) for name in NAMES)]:
        print(f"{', '.join(unknown)} names no measure of growth; these are: {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    path = options.out or RESULTS
    document = _document(path if path.exists() and (options.out or not options.quick) else None)
    keeps = options.out is not None or not options.quick
    failed = False
    for name in wanted:
        if not _measured(document, name, QUICK if options.quick else FULL):
            failed = True
        elif keeps:  # at once: whoever is interrupted has what was made so far
            write(path, document)
    print(text(document, wanted))
    if keeps:
        print(f"\nWritten to {path}. The plots and tables: python bench/plot.py")
    else:
        print("\nNot a whole run: bench/results/growth.json is left as it was (--out FILE writes one).")
    return 1 if failed else 0


def _document(path: Path | None) -> dict[str, Any]:
    """What was kept, or nothing: each measure says itself when, where and of which commit it was made."""
    kept_one = json.loads(path.read_text(encoding="utf-8")) if path else {}
    return kept_one if kept_one.get("schema") == SCHEMA else {"schema": SCHEMA, "measures": {}}


def _measured(document: dict[str, Any], name: str, size: Size) -> bool:
    """Measure, and put it into the document; a failure is told, and what was kept before stays."""
    began, at, before = time.monotonic(), datetime.now(UTC), machine()

    def tell(said: str) -> None:
        print(f"{name}: {said} ...", file=sys.stderr, flush=True)

    try:
        if name == PAPER:
            found = paper.measure(size, tell, document["measures"].get("curves") or {})
        else:
            found = MEASURES[name](size, tell)
    except Exception as error:  # noqa: BLE001 - whatever one measure's processes do, the others are still made
        print(f"{name}: FAILED: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return False
    took_s = time.monotonic() - began
    document["measures"][name] = entry(
        found, quick=size is QUICK, at=at.isoformat(timespec="seconds"), took_s=took_s, machine=before,
        versions=versions(), source=commit(),
    )  # fmt: skip
    print("\n".join(_lines(found.numbers)), f"\n  {took_s:.0f} s", file=sys.stderr, flush=True)
    return True


def entry(
    found: Found, *, quick: bool, at: str, took_s: float, machine: Mapping[str, Any], versions: Mapping[str, str],
    source: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """A measure as growth.json keeps it."""
    return {
        "quick": quick, "started_at": at, "took_s": round(took_s, 1), "source": dict(source),
        "machine": dict(machine), "versions": dict(versions), "conditions": found.conditions,
        "numbers": [number.as_dict() for number in found.numbers], "curves": found.curves,
    }  # fmt: skip


def text(document: Mapping[str, Any], names: Sequence[str]) -> str:
    """A table of the numbers, goals beside those that have one."""
    lines = []
    for name in names:
        if (made := document["measures"].get(name)) is None:
            continue
        lines += [f"\n{name} (load before {made['machine']['load_1m_before']}, {made['took_s']:.0f} s)"]
        numbers = [{key: value for key, value in number.items() if key != "met"} for number in made["numbers"]]
        lines += _lines([Number(**number) for number in numbers])
        lines += [f"  * {condition}" for condition in made["conditions"]]
    return "\n".join(lines)


def _lines(numbers: Sequence[Number]) -> list[str]:
    lines = []
    for number in numbers:
        goal = ""
        if number.goal is not None:
            sign = ">=" if number.better == "higher" else "<="
            goal = f"   goal {sign} {shown(number.goal)}".ljust(20) + ("met" if number.met else "NOT YET")
        lines.append(f"  {number.title[:70]:<72}{shown(number.value):>9} {number.unit:<7}{goal}".rstrip())
    return lines
