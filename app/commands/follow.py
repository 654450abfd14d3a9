"""Staying with a run until it ends, the time is over or the person goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import click
import orjson

from runyard.app.commands import shown
from runyard.app.commands.door import Door, exit_code_of
from runyard.app.commands.progress import Progress, instant_of
from runyard.app.commands.told import print_end
from runyard.engine.errors import EngineError
from runyard.engine.run import TERMINAL, Phase, Run
from runyard.engine.store.events import START, Event

#: How often a silent run is looked at.
LOOK_S = 0.5
#: A run that nobody takes for so long makes one ask whether there are workers.
PATIENCE_S = 3.0

OnEvent = Callable[[Event], None]


def follow(door: Door, run: Run, on_event: OnEvent, *, after: str = START, timeout_s: float | None = None) -> Run:
    """Hand over a run's events until its last; gives the run as it is then, or after ``timeout_s``."""
    began = time.monotonic()
    warned = False
    for event in door.service.events(run.run_id, after, pause_s=LOOK_S):
        waited_s = time.monotonic() - began
        if event is not None:
            on_event(event)
        elif (run := door.service.get_run(run.run_id)).phase in TERMINAL:
            break
        elif not warned and waited_s > PATIENCE_S and run.phase is Phase.WAITING:
            warned = _warn_without_workers(door, run)
        if timeout_s is not None and waited_s > timeout_s:
            break
    return door.service.get_run(run.run_id)


def follow_to_end(door: Door, run: Run, *, as_json: bool, stream: bool, timeout_s: float | None = None) -> int:
    """Show how a run goes, print what it came to and give the exit code. JSON lines when streamed as JSON."""
    if as_json and stream:
        ended = follow(door, run, print_event, timeout_s=timeout_s)
        return exit_code_of(ended)
    try:
        with watching(show=not as_json and (stream or shown.is_watched())) as on_event:
            ended = follow(door, run, on_event, timeout_s=timeout_s)
    except KeyboardInterrupt:
        click.echo(f"\nno longer watching; the run goes on: runyard wait {run.run_id}", err=True)
        raise
    print_end(door, ended, as_json=as_json)
    code = exit_code_of(ended)
    if ended.phase not in TERMINAL and not as_json:
        click.echo(f"not ended after {timeout_s:g} s; it goes on: runyard wait {ended.run_id}", err=True)
    return code


@contextlib.contextmanager
def watching(*, show: bool) -> Iterator[OnEvent]:
    """What to hand a run's events to; with ``show`` they are drawn on stderr."""
    if not show:
        yield lambda _: None
        return
    progress = Progress()
    with shown.View(progress, shown.console(err=True)).shown() as view:

        def take(event: Event) -> None:
            if event.name in ("tasks", "custom", "end"):
                progress.take(event.name, orjson.loads(event.data), instant_of(event.id))
                view.refresh()

        yield take


def print_event(event: Event) -> None:
    """One event as a JSON line."""
    line = b'{"id":"%b","event":%b,"data":%b}' % (event.id.encode(), orjson.dumps(event.name), event.data)
    click.echo(line)


def _warn_without_workers(door: Door, run: Run) -> bool:
    try:
        queues = [queue for worker in door.service.workers() for queue in worker["queues"].split(",")]
    except EngineError:
        return False
    if run.queue not in queues:
        click.echo(f"waiting: no worker takes runs of queue {run.queue!r}; start one with `runyard up`", err=True)
    return True
