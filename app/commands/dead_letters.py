"""Runs that failed for good: ``runyard dead-letters``."""

from __future__ import annotations

from pathlib import Path

import click

from runyard.app.commands.door import Door, open_door, store_options
from runyard.app.commands.letter_options import filter_options
from runyard.app.commands.letters_shown import print_letter, print_letters
from runyard.app.commands.replay import replay
from runyard.app.commands.shown import print_json
from runyard.app.commands.values import Id
from runyard.app.exit_codes import ExitCode
from runyard.app.shapes import of_letter
from runyard.engine import wire
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.letter import Filter


@click.group()
def dead_letters() -> None:
    """Find, understand and repair runs that failed for good."""


@dead_letters.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="Most to show.")
@click.option("--offset", type=click.IntRange(0), default=0, metavar="N", help="How many of the newest to leave out.")
@store_options
def list_(wanted: Filter, limit: int, offset: int, redis_url: str | None, data: Path, as_json: bool) -> int:
    """List dead letters, newest first."""
    found, total = letters(open_door(redis_url, data)).search(wanted, limit=limit, offset=offset)
    shown = [of_letter(run) for run in found]
    if as_json:
        print_json({"total": total, "dead_letters": shown})
    else:
        print_letters(shown, total=total, offset=offset)
    return ExitCode.OK


@dead_letters.command()
@click.argument("run_id", metavar="RUN", type=Id())
@store_options
def show(run_id: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Show all that is known of RUN: error, attempts, state, finished siblings."""
    letter = of_letter(letters(open_door(redis_url, data)).get(run_id))
    click.echo(wire.encode(letter)) if as_json else print_letter(letter)
    return ExitCode.OK


dead_letters.add_command(replay)


@dead_letters.command()
@click.argument("run_id", metavar="RUN", type=Id())
@click.option("--reason", required=True, help="Why; kept with the run.")
@store_options
def discard(run_id: str, reason: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Take RUN off the dead letters for good. Its record stays, with the reason, until retention."""
    if not reason.strip():
        raise click.BadParameter("say why, so that whoever finds the run knows", param_hint="'--reason'")
    letters(open_door(redis_url, data)).discard(run_id, reason.strip())
    print_json({"run_id": run_id, "discarded": reason.strip()}) if as_json else click.echo(f"discarded {run_id}")
    return ExitCode.OK


@dead_letters.command()
@filter_options
@store_options
def export(wanted: Filter, redis_url: str | None, data: Path, as_json: bool) -> int:  # noqa: ARG001 - lines either way
    """Print everything about dead letters as JSON lines, newest first."""
    for letter in letters(open_door(redis_url, data)).export(wanted):
        click.echo(wire.encode(of_letter(letter)))
    return ExitCode.OK


def letters(door: Door) -> DeadLetters:
    return DeadLetters(door.service)
