"""What a run has produced so far: ``runyard partial``."""

from __future__ import annotations

from pathlib import Path

import click

from runyard.app.commands.door import open_door, store_options
from runyard.app.commands.letters_shown import print_partial
from runyard.app.commands.project import project_option
from runyard.app.commands.replay import graphs
from runyard.app.commands.values import Id
from runyard.app.exit_codes import ExitCode
from runyard.app.shapes import of_partial
from runyard.engine import state, wire


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@project_option
@store_options
def partial(run_id: str, project: Path | None, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Show what each node of RUN has produced so far.

    While it runs, after it failed, when it is over; the graph is loaded to read its state.
    """
    door = open_door(redis_url, data)
    run = door.service.get_run(run_id)
    with graphs(project)(run) as graph:
        told = of_partial(run, state.partial(graph, door.service.saver, run))
    click.echo(wire.encode(told)) if as_json else print_partial(told)
    return ExitCode.OK
