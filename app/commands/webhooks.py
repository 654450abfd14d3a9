"""Webhooks that are not delivered: ``runyard webhooks``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.door import open_door, store_options
from runyard.app.commands.letters_shown import ago
from runyard.app.commands.values import Id
from runyard.app.exit_codes import ExitCode
from runyard.app.shapes import of_delivery
from runyard.engine import delivery
from runyard.engine.run import DeliveryState, Run


@click.group()
def webhooks() -> None:
    """See which webhooks are owed or were given up, and send them anew."""


@webhooks.command("list")
@click.option(
    "--state", type=click.Choice(["failed", "pending"]), default="failed", show_default=True, help="Which to list."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="Most to show.")
@store_options
def list_(state: DeliveryState, limit: int, redis_url: str | None, data: Path, as_json: bool) -> int:
    """List runs whose webhook was given up, or is still to be delivered."""
    found = delivery.search(open_door(redis_url, data).service, state, limit=limit)
    if as_json:
        shown.print_json({"webhooks": [_document(run) for run in found]})
    elif found:
        _print(found)
    else:
        click.echo(f"no webhook is {state}")
    return ExitCode.OK


@webhooks.command()
@click.argument("run_id", metavar="RUN", type=Id())
@store_options
def resend(run_id: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Deliver the webhook of RUN anew, whatever came of it before."""
    run = delivery.resend(open_door(redis_url, data).service, run_id)
    shown.print_json(_document(run)) if as_json else click.echo(f"sending the webhook of {run_id}")
    return ExitCode.OK


def _document(run: Run) -> dict[str, Any]:
    told = of_delivery(run.delivery) if run.delivery else None
    return {"run_id": run.run_id, "status": run.status, "webhook": run.request.webhook, "delivery": told}


def _print(found: list[Run]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for run in found:
        told = of_delivery(run.delivery) if run.delivery else {}
        when = told["settled_at"] or told["next_attempt_at"]
        word = f"next {when[:19]} UTC" if told["next_attempt_at"] else ago(when)
        table.add_row(Text(run.run_id, "bold"), Text(run.request.webhook or ""))
        tried = f"{told['attempts']} attempt{'' if told['attempts'] == 1 else 's'}, {word}"
        table.add_row(Text(f"  {tried}", "dim"), Text(told["problem"] or "", "red"))
    shown.console().print(table)
