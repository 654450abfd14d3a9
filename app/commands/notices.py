"""Notices to people: ``runyard notices``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.door import open_door, store_options
from runyard.app.commands.letters_shown import ago
from runyard.app.commands.problem import Problem, json_option
from runyard.app.commands.project import open_project, project_option
from runyard.app.exit_codes import ExitCode
from runyard.engine import shape
from runyard.engine.notices import Notice, Target, body_of, plain_text
from runyard.engine.settings import Settings
from runyard.engine.store import notices as calls
from runyard.engine.store.notices import Listed, State
from runyard.engine.webhooks import Delivered, WebhookPolicy, Webhooks
from runyard.graphs.project import Project
from runyard.tasks.notify import notify_for, sender

_TRY = Notice(
    kind="test", key="test", group="test", title="Runyard can reach you",
    text="Somebody asked with `runyard notices test` whether notices arrive. They do.",
)  # fmt: skip


@click.group()
def notices() -> None:
    """See which notices are owed or were given up, and try whether they arrive."""


@notices.command("list")
@click.option(
    "--state", type=click.Choice(["failed", "pending"]), default="failed", show_default=True, help="Which to list."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="Most to show.")
@store_options
def list_(state: State, limit: int, redis_url: str | None, data: Path, as_json: bool) -> int:
    """List deliveries of notices that were given up, or are still to be made."""
    service = open_door(redis_url, data).service
    known = service.store.do(calls.listed(service.keys, state, limit=limit))
    read = service.store.do_all([calls.read(service.keys, id_, at) for id_, at in known]) if known else []
    found = [each for each in read if each is not None]
    if as_json:
        shown.print_json({"notices": [_document(each) for each in found]})
    elif found:
        _print(found)
    else:
        click.echo(f"no notice is {state}")
    return ExitCode.OK


@notices.command()
@click.argument("delivery_id", metavar="ID")
@store_options
def resend(delivery_id: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Make the delivery ID anew, which was given up."""
    service = open_door(redis_url, data).service
    if not service.store.do(calls.resend(service.keys, delivery_id)):
        raise Problem(f"ID: no delivery {delivery_id!r} was given up.", ExitCode.NOT_FOUND, code="notice_not_found")
    shown.print_json({"id": delivery_id, "sent": True}) if as_json else click.echo(f"sending {delivery_id}")
    return ExitCode.OK


@notices.command("test")
@project_option
@json_option
def test_(project: Path | None, as_json: bool) -> int:
    """Send a notice to every address of the project, and say what came of each."""
    results = asyncio.run(_try_all(open_project(project)))
    if as_json:
        shown.print_json({"targets": [{"target": name, "problem": problem or None} for name, problem in results]})
    else:
        for name, problem in results:
            click.echo(f"{name}  {problem or 'delivered'}")
        if not results:
            click.echo("nobody is told of anything: neither runyard.notify.to nor RUNYARD_NOTIFY names an address")
    return ExitCode.FAILED if any(problem for _, problem in results) else ExitCode.OK


async def _try_all(project: Project) -> list[tuple[str, str]]:
    settings = Settings.from_env(os.environ)
    targets = notify_for(project, settings).targets
    webhooks = Webhooks(WebhookPolicy.of(project.webhooks, settings, os.environ))
    return [(name, await _try(target, webhooks)) for name, target in targets.items()]


async def _try(target: Target, webhooks: Webhooks) -> str:
    told = _TRY.told()
    if not target.is_webhook:
        return await sender()(target.address, _TRY.title, plain_text(told, 0))
    verdict = await webhooks.send(target.address, body_of(told, 0), delivery_id=_TRY.id, attempt=1)
    return "" if isinstance(verdict, Delivered) else verdict.problem


def _document(one: Listed) -> dict[str, Any]:
    facts = {"id": one.id, "at": shape.at(one.at), "target": one.target, "attempts": one.attempts}
    return {**facts, "problem": one.problem or None, "notice": one.told}


def _print(found: list[Listed]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        table.add_row(Text(one.id, "bold"), Text(str(one.told["title"])))
        tried = f"  {one.attempts} attempt{'' if one.attempts == 1 else 's'}, {ago(shape.at(one.at) or '')}"
        table.add_row(Text(tried, "dim"), Text.assemble(one.target, "  ", (one.problem, "red")))
    shown.console().print(table)
