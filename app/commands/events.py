"""What a run told: ``runyard events``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from runyard.app.commands import follow as following, shown
from runyard.app.commands.door import Door, open_door, store_options
from runyard.app.commands.progress import instant_of
from runyard.app.commands.values import EventId, Id
from runyard.app.exit_codes import ExitCode
from runyard.engine.run import Run
from runyard.engine.store import events as stored
from runyard.engine.store.events import Event


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--after", type=EventId(), default="0-0", help="Only what came after this event; its id is in --json.")
@store_options
def events(run_id: str, follow: bool, after: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Print what RUN has told: nodes, updates, progress.

    Events are kept for an hour after the run's end (RUNYARD_KEEP_EVENTS_S).
    """
    door = open_door(redis_url, data)
    run = door.service.get_run(run_id)
    show = following.print_event if as_json else _print
    if follow:
        following.follow(door, run, show, after=after)
    else:
        for event in _so_far(door, run, after):
            show(event)
    return ExitCode.OK


def _so_far(door: Door, run: Run, after: str) -> Iterator[Event]:
    while found := door.service.store.do(stored.read(door.service.keys, run.run_id, after)):
        yield from found
        after = found[-1].id


def _print(event: Event) -> None:
    """One line that fits the terminal; a pipe gets all of it."""
    at = instant_of(event.id)
    clock = f"{time.strftime('%H:%M:%S', time.localtime(at / 1000))}.{at % 1000:03d}"
    out = shown.console()
    line = f"{clock}  {event.name:<8} {event.data.decode(errors='replace')}"
    cut = len(line) > out.width and out.is_terminal
    click.echo(line[: out.width - 1] + "…" if cut else line)
