"""Runs on a schedule: ``runyard crons``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.door import open_door, store_options
from runyard.app.commands.values import Id
from runyard.app.exit_codes import ExitCode
from runyard.app.shapes import of_cron
from runyard.engine.crons import Crons
from runyard.engine.store.crons import Cron


@click.group()
def crons() -> None:
    """See which runs are started on a schedule, and stop that."""


@crons.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="Most to show.")
@click.option(
    "--offset",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="How many of the newest to leave out.",
)
@store_options
def list_(limit: int, offset: int, redis_url: str | None, data: Path, as_json: bool) -> int:
    """List crons, newest first."""
    found = Crons(open_door(redis_url, data).service).all()
    page = found[offset : offset + limit]
    if as_json:
        shown.print_json({"total": len(found), "crons": [of_cron(cron) for cron in page]})
    else:
        _print(page)
        click.echo(f"{len(page)} of {len(found)} crons" if found else "there are no crons")
    return ExitCode.OK


@crons.command()
@click.argument("cron_id", metavar="CRON", type=Id())
@store_options
def delete(cron_id: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Delete CRON. Runs that it has started go on."""
    Crons(open_door(redis_url, data).service).delete(cron_id)
    shown.print_json({"cron_id": cron_id, "deleted": True}) if as_json else click.echo(f"deleted {cron_id}")
    return ExitCode.OK


def _print(page: list[Cron]) -> None:
    """Two lines for each cron, so that a whole id fits beside them on a narrow screen."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for cron in page:
        told = of_cron(cron)
        when = f"next {told['next_run_date'][:19]} UTC" if told["next_run_date"] else "does not fire any more"
        zone = f" {cron.timezone}" if cron.timezone else ""
        table.add_row(Text(cron.cron_id, "bold"), Text.assemble((cron.schedule, "bold"), zone, f"  {cron.graph_id}"))
        table.add_row(Text(f"  fired {cron.fired}×", "dim"), Text.assemble(when, (f"  {cron.problem or ''}", "red")))
    if page:
        shown.console().print(table)
