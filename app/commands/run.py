"""Starting runs: ``runyard run`` and ``runyard resume``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from runyard.app.commands.door import Door, open_door, store_options
from runyard.app.commands.follow import follow_to_end
from runyard.app.commands.problem import Problem
from runyard.app.commands.progress import STREAM_MODES
from runyard.app.commands.project import known_graph, open_project, project_option
from runyard.app.commands.shown import print_json
from runyard.app.commands.told import document
from runyard.app.commands.values import Id, Json, check_config
from runyard.app.exit_codes import ExitCode
from runyard.engine.errors import RunNotFound, ThreadNotFound
from runyard.engine.ids import new_thread_id
from runyard.engine.run import Run, RunRequest

#: Every graph has an assistant of its own, whose id follows from the graph's: the rule is LangGraph's.
ASSISTANTS = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def waiting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What to do once a run was started."""
    wait = click.option("--wait/--no-wait", default=True, show_default=True, help="Stay, or print the run's id and go.")
    stream = click.option("--stream", is_flag=True, help="Show nodes as they run; with --json every event as a line.")
    timeout = click.option("--timeout", type=click.FloatRange(0), metavar="S", help="Wait no longer; the run goes on.")
    return wait(stream(timeout(command)))


@click.command()
@click.argument("graph")
@click.option("--input", "input_", type=Json(), help="What the graph is given.")
@click.option("--thread", type=Id(), help="A thread to go on with. Default: a new one.")
@click.option(
    "--config",
    type=Json(only_object=True),
    callback=check_config,
    help="The run's configurable, tags, recursion_limit.",
)
@waiting_options
@project_option
@store_options
@click.pass_context
def run(
    ctx: click.Context, /, graph: str, input_: Any, thread: str | None, config: dict[str, Any], project: Path | None,
    redis_url: str | None, data: Path, as_json: bool, **how: Any,
) -> int:  # fmt: skip
    """Start a run of GRAPH and wait for its result.

    The result goes to stdout, progress to stderr. With --thread and without --input the thread goes on where it
    stopped.
    """
    if thread is None and ctx.get_parameter_source("input_") is ParameterSource.DEFAULT:
        raise click.UsageError("a new thread needs --input: JSON, @file, or - for stdin; e.g. --input '{}'", ctx)
    known_graph(open_project(project), graph)
    door = open_door(redis_url, data)
    started = start(door, graph, thread, input=input_, config=config)
    return after_start(door, started, as_json=as_json, **how)


@click.command()
@click.argument("id_", metavar="RUN_OR_THREAD", type=Id())
@click.option("--value", type=Json(), required=True, help="The answer, as the graph expects it.")
@waiting_options
@store_options
def resume(id_: str, value: Any, redis_url: str | None, data: Path, as_json: bool, **how: Any) -> int:
    """Answer a run that waits for a person, and wait for its result.

    A new run on the same thread carries the answer. RUN_OR_THREAD is the id of the waiting run or of its thread.
    """
    door = open_door(redis_url, data)
    graph, thread, config = _waiting(door, id_)
    started = start(door, graph, thread, command={"resume": value}, config=config)
    return after_start(door, started, as_json=as_json, **how)


def start(door: Door, graph: str, thread: str | None, **request: Any) -> Run:
    """Record the run and wake a worker. Without a thread it gets one of its own, which is kept."""
    return door.service.create_run(
        RunRequest(**request, stream_mode=list(STREAM_MODES)),
        graph_id=graph,
        assistant_id=str(uuid.uuid5(ASSISTANTS, graph)),
        thread_id=thread or new_thread_id(),
        create_thread=thread is None,
    )


def after_start(door: Door, started: Run, *, as_json: bool, wait: bool, stream: bool, timeout: float | None) -> int:
    """Stay with a run that was just started, or say its id and go."""
    if not wait:
        print_json(document(started)) if as_json else click.echo(started.run_id)
        return ExitCode.OK
    if not as_json:
        click.echo(f"run {started.run_id} on thread {started.thread_id}", err=True)
    return follow_to_end(door, started, as_json=as_json, stream=stream, timeout_s=timeout)


def _waiting(door: Door, id_: str) -> tuple[str, str, dict[str, Any]]:
    """Graph, thread and config of what waits under this id. Raises Problem when nothing does."""
    config: dict[str, Any] = {}
    try:
        run = door.service.get_run(id_)
        thread_id, config = run.thread_id, run.request.config
    except RunNotFound:
        thread_id = id_
    try:
        thread = door.service.get_thread(thread_id)
    except ThreadNotFound:
        message = f"RUN_OR_THREAD: there is no run or thread {id_}."
        raise Problem(message, ExitCode.NOT_FOUND, code="not_found") from None
    if thread.status != "interrupted" or not thread.graph_id:
        message = f"Thread {thread_id} does not wait for an answer: it is {thread.status}."
        raise Problem(message, ExitCode.CONFLICT, code="conflict")
    return thread.graph_id, thread_id, config
