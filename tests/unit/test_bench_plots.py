"""The plots of the bench are drawn from its results alone."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plots() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT))
    yield importlib.import_module("bench.plots")
    sys.path.remove(str(ROOT))


def made(**curves: Any) -> dict[str, Any]:
    machine = {"cores": 2, "cpu": "a CPU", "python": "CPython 3.11", "load_1m_before": 0.1}
    return {"started_at": "2026-01-01T00:00", "source": {"commit": "abc1234"}, "machine": machine, "curves": curves}


def line(*keys: str) -> list[dict[str, float]]:
    return [{"x": x, **dict.fromkeys(keys, 2.0 * x)} for x in (1, 10, 100)]


@pytest.fixture
def document(plots: Any) -> dict[str, Any]:
    parts = line("all", *plots.PARTS)
    compared = line("runs_s", "measured_runs_s", "p50_ms", "measured_p50_ms")
    fleet = line("runs_s", "most", "store_busy")
    kept = line("get_ms", "search_ms", "sweep_ms", "dead_ms", "only_ms", "bytes_per_run")
    turns = line("all", "bytes", "history_ms")
    measures = {
        "curves": made(nodes=parts, state_kb=parts, width=parts),
        "paper": made(
            simulated_clients=compared, simulated_workers=compared, fleet_1=fleet, fleet_2=fleet, fleet_4=fleet
        ),
        "turns": made(talk=turns, talk_delta=turns),
        "kept": made(kept=kept),
    }
    return {"measures": measures}


def test_every_plot_says_its_units_and_what_it_was_measured_on(
    plots: Any, document: dict[str, Any], tmp_path: Path
) -> None:
    paths = plots.make_all(document, tmp_path)
    assert {path.stem for path in paths} == set(plots.PLOTS)
    said = {path.stem: path.read_text() for path in paths}
    assert all("commit abc1234, 2 cores (a CPU)" in text for text in said.values())
    for name, words in {
        "cost-of-a-run": ("ms of CPU for a run", "nodes in a row", "state, kB", "branches of a fan-out"),
        "concurrency": ("goal 200", "measured", "simulated", "workers on two cores"),
        "long-thread": ("lasting kB for a turn", "delta channel"),
        "kept-runs": ("finished runs kept", "a label of one thread"),
        "fleets": ("worker cores", "planned: 70"),
    }.items():
        assert all(word in said[name] for word in words)


def test_plots_are_the_same_when_they_are_drawn_again_and_small(
    plots: Any, document: dict[str, Any], tmp_path: Path
) -> None:
    first, second = (plots.make_all(document, tmp_path / name) for name in ("one", "two"))
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert one.stat().st_size < 80_000


def test_a_plot_whose_measures_are_missing_is_left_out(plots: Any, document: dict[str, Any], tmp_path: Path) -> None:
    del document["measures"]["turns"]
    assert "long-thread" not in [path.stem for path in plots.make_all(document, tmp_path)]


def test_the_page_shows_every_plot_that_is_drawn(plots: Any) -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\(plots/([\w-]+)\.svg\)", page))
    assert shown == set(plots.PLOTS)
    assert all((ROOT / "docs" / "plots" / f"{name}.svg").is_file() for name in shown)
