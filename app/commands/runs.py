"""Runs that exist: ``runyard status``, ``wait`` and ``cancel``."""

from __future__ import annotations

from pathlib import Path

import click

from runyard.app.commands.door import exit_code_of, open_door, store_options
from runyard.app.commands.follow import follow, follow_to_end, watching
from runyard.app.commands.shown import print_json
from runyard.app.commands.told import document, print_run
from runyard.app.commands.values import Id
from runyard.app.exit_codes import ExitCode
from runyard.engine.run import CancelAction


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@click.option("--watch", is_flag=True, help="Stay until it has ended, and exit as `wait` does.")
@store_options
def status(run_id: str, watch: bool, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Say where RUN stands."""
    door = open_door(redis_url, data)
    run = door.service.get_run(run_id)
    if watch:
        with watching(show=not as_json) as on_event:
            run = follow(door, run, on_event)
    print_json(document(run)) if as_json else print_run(run, door.service.asked(run))
    return exit_code_of(run) if watch else ExitCode.OK


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@click.option("--timeout", type=click.FloatRange(0), metavar="S", help="Wait no longer; the run goes on.")
@store_options
def wait(run_id: str, timeout: float | None, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Wait until RUN has ended, and print its result."""
    door = open_door(redis_url, data)
    return follow_to_end(door, door.service.get_run(run_id), as_json=as_json, stream=False, timeout_s=timeout)


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@click.option("--rollback", is_flag=True, help="Also delete the run and what it saved.")
@store_options
def cancel(run_id: str, rollback: bool, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Ask for the end of RUN.

    Returns at once; a worker that has it in hand ends it within about a second (`wait` says when).
    """
    door = open_door(redis_url, data)
    run = door.service.get_run(run_id)
    action: CancelAction = "rollback" if rollback else "interrupt"
    door.service.cancel_run(run, action)
    if as_json:
        print_json({"run_id": run_id, "action": action})
    else:
        click.echo(f"cancelling {run_id}" + (", and deleting what it saved" if rollback else ""))
    return ExitCode.OK
