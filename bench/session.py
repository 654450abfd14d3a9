"""One session of the bench: who is measured in what order, what is shown meanwhile, what is kept."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bench import measures as m, report, table
from bench.contenders.celery_chain import CeleryContender
from bench.contenders.inprocess import InProcess
from bench.contenders.runyard import CLIENTS, WORKERS, Runyard
from bench.machine import commit, machine, versions
from bench.measure import FULL, QUICK, Number, Scale, Tell
from bench.plan import Plan

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"


class Measured(Protocol):
    contender: m.Contender

    def measure(self, plan: Plan, scale: Scale, tell: Tell) -> Iterator[Number]: ...


def contenders() -> list[Measured]:
    return [
        InProcess(m.FLOOR, saver=False),
        InProcess(m.MEMORY, saver=True),
        CeleryContender(m.CELERY, per_node=True),
        CeleryContender(m.CELERY_INVOKE, per_node=False),
        Runyard(m.RUNYARD, appendfsync="always"),
        Runyard(m.RUNYARD_EVERYSEC, appendfsync="everysec", brief=True),
    ]


def conditions(scale: Scale) -> list[str]:
    """What has to be known to read the numbers."""
    return [
        "Everything runs on the same cores: the contender, its store and the client that asks.",
        f"Runyard: {WORKERS} workers, 2 web processes, asked over HTTP; {CLIENTS} clients in the closed loop.",
        "Runyard keeps each run on a thread of its own. One worker for the waiting runs, two for the kill.",
        "Celery: prefork 2, its defaults, Redis broker, asked without HTTP; 200 threads for the waiting runs.",
        "Celery with a task per node runs the bodies of the nodes, without LangGraph.",
        "In-process: LangGraph on one asyncio loop in this process: no queue, no store, no HTTP.",
        f"Each closed loop goes on for {scale.seconds:g} s after a warm-up; every result is checked.",
    ]


class Progress:
    """One line that says what goes on; a terminal's line is overwritten, a log gets a new one."""

    def __init__(self) -> None:
        self._over = sys.stderr.isatty()

    def tell(self, contender: m.Contender, text: str) -> None:
        line = f"{contender.title} ({contender.short_durability}): {text}"
        print(
            f"\r\033[K{line} ..." if self._over else line, end="" if self._over else "\n", file=sys.stderr, flush=True
        )

    def done(self, number: Number) -> None:
        measure = m.MEASURE[number.measure]
        clear = "\r\033[K" if self._over else ""
        print(
            f"{clear}  {measure.title:<34}{report.shown(number.value):>9} {measure.unit}", file=sys.stderr, flush=True
        )

    def failed(self, contender: m.Contender, error: Exception) -> None:
        print(f"\r{contender.title}: FAILED: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr, flush=True)


def measure_all(plan: Plan, scale: Scale, progress: Progress) -> tuple[list[Number], dict[str, str]]:
    """All numbers, and for each contender that failed why. One that fails does not stop the others."""
    numbers: list[Number] = []
    failures: dict[str, str] = {}
    for measured in contenders():
        if not plan.wants_any(measured.contender):
            continue
        try:
            for number in measured.measure(plan, scale, partial(progress.tell, measured.contender)):
                if plan.wants(measured.contender, m.MEASURE[number.measure]):
                    numbers.append(number)
                    progress.done(number)
        except Exception as error:  # noqa: BLE001 - whatever a contender's processes do, the others are still measured
            failures[measured.contender.name] = f"{type(error).__name__}: {error}"
            progress.failed(measured.contender, error)
    return numbers, failures


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything wanted was measured, 1 when something failed, 2 for a word that names nothing."""
    options = _options(arguments)
    # What asks is part of what is measured: looking through LangGraph's modules for garbage stops it for 0.1 s.
    gc.collect()
    gc.freeze()
    if options.growth:
        from bench.growth.session import main as growth  # noqa: PLC0415 - it needs simpy, which the rest does not

        return growth(options)
    options.out = options.out or RESULTS
    plan, scale = Plan(tuple(options.only)), QUICK if options.quick else FULL
    if unknown := plan.unknown():
        print(f"{', '.join(unknown)} names neither a contender nor a measure.", file=sys.stderr)
        return 2
    started_at, began, before = datetime.now(UTC), time.monotonic(), machine()
    numbers, failures = measure_all(plan, scale, Progress())
    took_s = time.monotonic() - began
    made = report.document(
        numbers, quick=options.quick, started_at=started_at.isoformat(timespec="seconds"), took_s=took_s,
        machine=before, versions=versions(), source=commit(), conditions=conditions(scale), failures=failures,
    )  # fmt: skip
    _show(made, numbers)
    if (plan.only or options.quick) and options.out == RESULTS:
        print("\nNot a whole run: bench/results/latest.json is left as it was (--out FILE writes one).")
    else:
        report.write(options.out, made)
        print(f"\nWritten to {options.out}")
    return 1 if failures else 0


def _show(made: dict[str, Any], numbers: Sequence[Number]) -> None:
    facts, grid = made["machine"], report.grid_of(numbers)
    print(f"\n{facts['cores']} cores, {facts['cpu']}, {facts['python']}, load before {facts['load_1m_before']}")
    if facts["load_1m_before"] > facts["cores"] / 4:
        print("Others are at work on this machine: read the ratios, not the numbers.")
    print()
    print(table.table(grid))
    print("\n" + table.goals_text(report.goals(grid)))
    print("\n" + "\n".join(f"* {line}" for line in made["conditions"]))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    known = [item.name for item in (*m.CONTENDERS, *m.MEASURES)]
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="Measure Runyard beside plain LangGraph and plain Celery."
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds each: checks the bench, not the machine")
    parser.add_argument(
        "--growth", action="store_true",
        help="how costs grow, instead of the comparison; for --only: calls, curves, finished, kept, paper, readers, "
        "tokens, turns",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="NAME", action="append", default=[],
        help=f"a contender or a measure, or how its name begins; may be repeated: {', '.join(known)}",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="where the numbers go (default: latest.json, or growth.json)",
    )
    return parser.parse_args(arguments)
