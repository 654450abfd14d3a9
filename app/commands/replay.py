"""Taking failed runs up again: ``runyard dead-letters replay``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from runyard.app.commands.door import Door, exit_code_of, open_door, store_options
from runyard.app.commands.follow import follow, watching
from runyard.app.commands.letter_options import filter_options, repair_options
from runyard.app.commands.letters_shown import print_replayed
from runyard.app.commands.problem import Problem
from runyard.app.commands.project import known_graph, open_project, project_option
from runyard.app.commands.shown import is_watched, print_json
from runyard.app.commands.told import document, print_end
from runyard.app.commands.values import Id
from runyard.app.exit_codes import ExitCode
from runyard.engine.dead_letters import REPLAYED, DeadLetters, OpenGraph
from runyard.engine.errors import InvalidInput
from runyard.engine.letter import Filter, Repair
from runyard.engine.run import Run
from runyard.engine.worker import Graph
from runyard.graphs.registry import Registry, server_runtime


@click.command()
@click.argument("run_id", metavar="[RUN]", type=Id(), required=False)
@repair_options
@click.option("--wait", is_flag=True, help="Stay with RUN until it has ended, and print its result.")
@filter_options
@click.option("--all", "every", is_flag=True, help="Without RUN and filters: every dead letter.")
@click.option(
    "--rate", type=click.FloatRange(0.1, 1000), default=10.0, show_default=True, metavar="N", help="Replays a second."
)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, metavar="N", help="Most to replay.")
@project_option
@store_options
def replay(
    *, run_id: str | None, repair: Repair, wanted: Filter, every: bool, wait: bool, rate: float, limit: int,
    project: Path | None, redis_url: str | None, data: Path, as_json: bool,
) -> int:  # fmt: skip
    """Take RUN, or all that fit, up again where they failed.

    Only what failed is run again, and the run keeps its id; but --set begins a new step, without what finished beside
    the failed node. With filters or --all, the oldest are replayed first.
    """
    _check_meant(run_id, wanted, every=every, wait=wait)
    try:
        repair.check()
        door = open_door(redis_url, data)
        open_graph = graphs(project)
        if run_id is None:
            return _replay_all(door, wanted, repair, open_graph, rate=rate, limit=limit, as_json=as_json)
        return _replay(door, run_id, repair, open_graph, wait=wait, as_json=as_json)
    except InvalidInput as problem:
        raise Problem(str(problem), ExitCode.USAGE, code=problem.code) from problem


def graphs(project: Path | None) -> OpenGraph:
    """Opens the graph of a run from the project. Raises Problem that names --project for a graph it does not have."""

    def open_graph(run: Run) -> contextlib.AbstractContextManager[Graph]:
        opened = open_project(project)
        known_graph(opened, run.graph_id)
        config: Any = {"configurable": {"thread_id": run.thread_id}}
        return Registry(opened).open(run.graph_id, config, runtime=server_runtime("threads.read"))

    return open_graph


def _check_meant(run_id: str | None, wanted: Filter, *, every: bool, wait: bool) -> None:
    many = every or wanted != Filter()
    if run_id is None and not many:
        raise click.UsageError("name RUN, or what to replay by filters, or --all")
    if run_id is not None and many:
        raise click.UsageError("give RUN or filters, not both")
    if run_id is None and wait:
        raise click.UsageError("--wait goes with one RUN")


def _replay(door: Door, run_id: str, repair: Repair, open_graph: OpenGraph, *, wait: bool, as_json: bool) -> int:
    run, seen = door.service.get_run(run_id), door.service.last_event_id(run_id)
    with open_graph(run) if repair.needs_graph else contextlib.nullcontext() as graph:
        run = DeadLetters(door.service).replay(run_id, repair, graph)
    if not wait:
        print_json(document(run)) if as_json else click.echo(f"replaying {run_id}; see: runyard wait {run_id}")
        return ExitCode.OK
    with watching(show=not as_json and is_watched()) as on_event:
        ended = follow(door, run, on_event, after=seen)
    print_end(door, ended, as_json=as_json)
    return exit_code_of(ended)


def _replay_all(
    door: Door, wanted: Filter, repair: Repair, open_graph: OpenGraph, *, rate: float, limit: int, as_json: bool
) -> int:
    letters = DeadLetters(door.service)
    total = min(limit, letters.count(wanted))
    told = letters.replay_all(wanted, repair, per_second=rate, limit=limit, open_graph=open_graph)
    refused = 0
    for number, (run_id, word) in enumerate(told, 1):
        refused += word != REPLAYED
        detail = None if word == REPLAYED else word
        if as_json:
            print_json({"run_id": run_id, "replayed": not detail, **({"detail": detail} if detail else {})})
        else:
            print_replayed(number, total, run_id, detail)
    _sum_up(total, refused, as_json=as_json)
    return ExitCode.FAILED if refused else ExitCode.OK


def _sum_up(total: int, refused: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"done": True, "replayed": total - refused, "refused": refused})
    elif not total:
        click.echo("no dead letter fits")
    else:
        click.echo(f"{total - refused} replayed" + (f", {refused} not" if refused else ""))
