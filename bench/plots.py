"""The plots of docs/performance.md, from ``growth.json`` alone: nothing is measured here.

Transparent, in tones that can be read on white and on black; text stays text, so that the files are small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

Document = Mapping[str, Any]
Points = Sequence[Mapping[str, float]]

INK, GRID = "#737b85", "#737b8544"
BLUE, ORANGE, GREEN, PURPLE, RED = "#2f81f7", "#d9730d", "#2da44e", "#a371f7", "#e5534b"
PARTS = {"store": GREEN, "web": ORANGE, "workers": BLUE, "client": PURPLE}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "runyard", "font.family": "sans-serif", "font.size": 9,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.8, "lines.markersize": 4,
}  # fmt: skip


def make_all(document: Document, folder: Path) -> list[Path]:
    """Write every plot whose measures are there; answers which."""
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (needs, draw) in PLOTS.items():
        if all(need in document["measures"] for need in needs):
            with mpl.rc_context(STYLE):
                figure = draw(document)
                path = folder / f"{name}.svg"
                figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": "bench/plot.py"})
                made.append(path)
    return made


def cost_of_a_run(document: Document) -> Figure:
    with _figure(document, "curves", 3) as (figure, axes):
        grown = {"nodes": "nodes in a row", "state_kb": "state, kB", "width": "branches of a fan-out"}
        for axis, (curve, label) in zip(axes, grown.items(), strict=True):
            _parts(axis, _curve(document, "curves", curve), label, logged=curve != "state_kb")
        axes[0].set_ylabel("ms of CPU for a run")
        axes[1].set_xscale("symlog", linthresh=1)
        axes[1].set_xlim(-0.2, 2 * _xs(_curve(document, "curves", "state_kb"))[-1])
        _ticks(axes[1], _curve(document, "curves", "state_kb"))
        _legend(figure, axes[0])
    return figure


def concurrency(document: Document) -> Figure:
    with _figure(document, "curves", 3) as (figure, axes):
        clients, workers = (_curve(document, "paper", f"simulated_{name}") for name in ("clients", "workers"))
        _compared(axes[0], clients, "runs_s", "clients at once", "runs/s")
        axes[0].axhline(200, color=RED, linestyle=":", linewidth=1.2)
        axes[0].annotate("goal 200", (clients[0]["x"], 200), (0, 3), textcoords="offset points", color=RED, fontsize=8)
        _compared(axes[1], clients, "p50_ms", "clients at once", "POST to result, p50, ms")
        axes[1].set_yscale("log", base=2)
        _plain(axes[1].yaxis)
        _compared(axes[2], workers, "runs_s", "workers on two cores", "runs/s, 32 clients")
        for axis in (axes[0], axes[1]):
            axis.set_xscale("log", base=2)
            _ticks(axis, clients)
        axes[2].set_xticks([point["x"] for point in workers])
        for axis in (axes[0], axes[2]):
            axis.set_ylim(bottom=0)
        axes[0].set_ylim(top=max(230.0, axes[0].get_ylim()[1]))
        _legend(figure, axes[2])
    return figure


def long_thread(document: Document) -> Figure:
    with _figure(document, "turns", 3) as (figure, axes):
        for graph, name, colour in (("talk", "plain list", ORANGE), ("talk_delta", "delta channel", BLUE)):
            points = _curve(document, "turns", graph)
            for axis, key, scale in ((axes[0], "all", 1), (axes[1], "bytes", 1000), (axes[2], "history_ms", 1)):
                axis.plot(_xs(points), [point[key] / scale for point in points], "o-", color=colour, label=name)
        labels = ("ms of CPU for a turn", "lasting kB for a turn", "read the last state, ms")
        for axis, label in zip(axes, labels, strict=True):
            axis.set_ylabel(label)
            axis.set_xlabel("turns of the thread")
            axis.set_ylim(bottom=0)
        _legend(figure, axes[0])
    return figure


def kept_runs(document: Document) -> Figure:
    looks = {
        "get": ("one run", GREEN), "search": ("newest threads", BLUE), "sweep": ("recovery's sweep", PURPLE),
        "dead": ("dead letters", ORANGE), "only": ("a label of one thread", RED),
    }  # fmt: skip
    with _figure(document, "kept", 2) as (figure, axes):
        points = _curve(document, "kept", "kept")
        for key, (label, colour) in looks.items():
            axes[0].plot(_xs(points), [point[f"{key}_ms"] for point in points], "o-", color=colour, label=label)
        axes[0].set_yscale("log")
        axes[0].set_ylabel("ms")
        _legend(figure, axes[0])
        axes[1].plot(_xs(points), [point["bytes_per_run"] / 1000 for point in points], "o-", color=BLUE)
        axes[1].set_ylabel("kB of memory for a run")
        axes[1].set_ylim(0, axes[1].get_ylim()[1] * 1.2)
        for axis in axes:
            axis.set_xscale("log")
            axis.set_xlabel("finished runs kept")
            _ticks(axis, points)
        _plain(axes[0].yaxis)
    return figure


def fleets(document: Document) -> Figure:
    with _figure(document, "paper", 2) as (figure, axes):
        for stores, colour in ((1, BLUE), (2, GREEN), (4, PURPLE)):
            points = _curve(document, "paper", f"fleet_{stores}")
            name = "one store" if stores == 1 else f"{stores} stores"
            axes[0].plot(_xs(points), [point["runs_s"] for point in points], "o-", color=colour, label=name)
            axes[0].plot(_xs(points), [point["most"] for point in points], ":", color=colour, linewidth=1.2)
            axes[1].plot(_xs(points), [100 * point["store_busy"] for point in points], "o-", color=colour, label=name)
        axes[0].plot([], [], ":", color=INK, label="bound by CPU")
        axes[0].set_ylabel("runs/s, simulated")
        axes[0].set_yscale("log", base=2)
        _plain(axes[0].yaxis)
        axes[1].set_ylabel("the busiest store, % of a core")
        axes[1].axhline(70, color=RED, linestyle=":", linewidth=1.2)
        axes[1].annotate("planned: 70", (points[0]["x"], 70), (0, 3), textcoords="offset points", color=RED, fontsize=8)
        axes[1].set_ylim(0, 105)
        for axis in axes:
            axis.set_xscale("log", base=2)
            axis.set_xlabel("worker cores")
            _ticks(axis, points)
        _legend(figure, axes[0])
    return figure


#: File name -> the measures it needs, and what draws it.
PLOTS: dict[str, tuple[tuple[str, ...], Callable[[Document], Figure]]] = {
    "cost-of-a-run": (("curves",), cost_of_a_run),
    "concurrency": (("curves", "paper"), concurrency),
    "long-thread": (("turns",), long_thread),
    "kept-runs": (("kept",), kept_runs),
    "fleets": (("paper",), fleets),
}


@contextmanager
def _figure(document: Document, measure: str, columns: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """So many panels beside each other, and below them what they were measured on."""
    figure = Figure(figsize=(9.6, 3.3), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    yield figure, list(axes)
    figure.supxlabel(_made(document["measures"][measure]), fontsize=7.5, color=INK, x=0.01, ha="left")


def _legend(figure: Figure, axis: Axes) -> None:
    """One for all panels, above them, where no line is."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))


def _made(measure: Mapping[str, Any]) -> str:
    machine, source = measure["machine"], measure["source"]
    return (
        f"{measure['started_at'][:10]}, commit {source['commit']}, {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['python']}, load before {machine['load_1m_before']}"
    )


def _curve(document: Document, measure: str, name: str) -> Points:
    found: Points = document["measures"][measure]["curves"][name]
    return found


def _xs(points: Points) -> list[float]:
    return [point["x"] for point in points]


def _parts(axis: Axes, points: Points, label: str, *, logged: bool) -> None:
    axis.plot(_xs(points), [point["all"] for point in points], "o-", color=INK, label="all together")
    for part, colour in PARTS.items():
        axis.plot(_xs(points), [point[part] for point in points], "o-", color=colour, label=part)
    if logged:
        axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(label)
    _ticks(axis, points)
    _plain(axis.yaxis)


def _compared(axis: Axes, points: Points, key: str, x_label: str, y_label: str) -> None:
    axis.plot(_xs(points), [point[f"measured_{key}"] for point in points], "o-", color=BLUE, label="measured")
    axis.plot(_xs(points), [point[key] for point in points], "s--", color=ORANGE, label="simulated")
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)


def _ticks(axis: Axes, points: Points) -> None:
    """A tick at each point that was measured, and none between."""
    axis.set_xticks(_xs(points))
    axis.minorticks_off()
    _plain(axis.xaxis)


def _plain(axis: Any) -> None:
    """Numbers as people write them, not as powers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    return f"{value / 1000:.3g}k" if value >= 1000 else f"{value:g}"
