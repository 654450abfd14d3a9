"""``runyard crash-test``: whether a graph survives the death of its worker, at every point of a run."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import click
import structlog
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.problem import Problem, json_option
from runyard.app.commands.project import known_graph, open_project, project_option
from runyard.app.commands.values import Json, check_config
from runyard.app.exit_codes import ExitCode
from runyard.engine.crash_test import Plan, Report, Trial, crash_test as run_crash_test
from runyard.engine.run import RunRequest
from runyard.engine.settings import Settings
from runyard.graphs.errors import GraphBroken
from runyard.graphs.registry import Project, Registry


@click.command("crash-test")
@click.argument("graph")
@click.option("--input", "input_", type=Json(), required=True, help="What the graph is given.")
@click.option("--resume", type=Json(), multiple=True, help="An answer to what the graph asks; again for the next one.")
@click.option(
    "--config",
    type=Json(only_object=True),
    callback=check_config,
    help="The run's configurable, tags, recursion_limit.",
)
@click.option("--max-points", type=click.IntRange(1), default=200, show_default=True, help="Stop after so many deaths.")
@click.option("--timeout", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds for each run.")
@project_option
@json_option
def crash_test(
    graph: str, input_: Any, resume: tuple[Any, ...], config: dict[str, Any], max_points: int, timeout: float,
    project: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Kill the worker at every point of a run of GRAPH, and say what ran twice.

    GRAPH really runs, once for each point, on a store of its own: what its nodes do to the world they do as often.
    Exits with 1 when a final state was not that of the undisturbed run, or an effect under once() happened twice.
    """
    opened = open_project(project)
    known_graph(opened, graph)
    _import(opened, graph)
    _be_quiet()
    plan = Plan(
        graph_id=graph,
        requests=(
            RunRequest(input=input_, config=config),
            *(RunRequest(command={"resume": answer}, config=config) for answer in resume),
        ),
        open_graph=Registry(opened).aopen,
        settings=Settings.from_env(os.environ),
        policies=opened.runyard.get("policies", {}),
        max_points=max_points,
        timeout_s=timeout,
    )
    report = run_crash_test(plan, _show_progress if shown.is_watched() and not as_json else lambda *_: None)
    shown.print_json(document(report)) if as_json else _show(report)
    return ExitCode.OK if report.survived else ExitCode.FAILED


def _import(project: Project, graph_id: str) -> None:
    """Import the graph's module before the first fork, with a registry whose threads end here. Raises Problem."""
    registry = Registry(project)
    try:
        with registry.open(graph_id):
            pass
    except GraphBroken as broken:
        raise Problem(str(broken), ExitCode.FAILED, code="graph_broken") from broken
    finally:
        registry.close()


def _be_quiet() -> None:
    """A thousand runs that end as they should are no news."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def document(report: Report) -> dict[str, Any]:
    """The report for programs."""
    trials = [{**dataclasses.asdict(trial), "survived": trial.survived} for trial in report.trials]
    return {**dataclasses.asdict(report), "trials": trials, "survived": report.survived}


def summary(report: Report) -> str:
    """What was found, in a sentence or two."""
    trials = report.trials
    twice = sorted({node for trial in trials for node in trial.nodes_again})
    effects = sorted({effect for trial in trials for effect in trial.effects_again})
    bad = sum(bool(trial.differences or trial.problem) for trial in trials)
    state = "every final state is that of the undisturbed run" if not bad else f"{bad} ended in another state"
    left_out = report.points - len(trials)
    return (
        f"{len(trials)} deaths of a worker: {state}; {_which('effect', effects)} happened twice; "
        f"{_which('node', twice)} ran again.{f' {left_out} points were left out.' if left_out > 0 else ''}"
    )


def _which(kind: str, names: list[str]) -> str:
    return f"{kind}s {', '.join(names)}" if names else f"no {kind}"


def _show_progress(trial: Trial, of: int) -> None:
    click.echo(f"\r{trial.point} of about {of}: {trial.what} {trial.node}".ljust(72), nl=False, err=True)


def _show(report: Report) -> None:
    out, table = shown.console(), Table(box=None, pad_edge=False)
    if shown.is_watched():
        click.echo("\r".ljust(72) + "\r", nl=False, err=True)
    for heading in ("killed after", "node", "ran again", "final state"):
        table.add_column(heading)
    for trial in report.trials:
        again = [f"{name} ×{count}" for name, count in {**trial.nodes_again, **trial.effects_again}.items()]
        table.add_row(trial.what, trial.node, ", ".join(again) or "–", _verdict(trial))
    out.print(table)
    if report.varies:
        out.print(Text(f"Not compared, because it differs by itself: {', '.join(report.varies[:8])}", "dim"))
    if report.status != "success":
        out.print(Text(f"The undisturbed run ended with {report.status}.", "yellow"))
    out.print(Text(summary(report), "green" if report.survived else "red"))


def _verdict(trial: Trial) -> Text:
    if trial.problem:
        return Text(trial.problem, "red")
    if trial.differences:
        return Text(f"differs at {', '.join(trial.differences[:3])}", "red")
    return Text("an effect happened twice", "red") if trial.effects_again else Text("the same", "green")
