"""``runyard doctor``: one pass over everything that can be wrong with a set-up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.check import Finding, fail, ok
from runyard.app.commands.check_machine import check_graphs, check_langgraph, check_ports, check_python, check_sqlite
from runyard.app.commands.check_store import (
    check_broker,
    check_host,
    check_store,
    check_workers,
    guarded,
    without_store,
)
from runyard.app.commands.door import NO_STORE, RETRY_S, read_settings, store_options
from runyard.app.commands.project import project_option
from runyard.app.exit_codes import ExitCode
from runyard.engine.errors import ConfigError, EngineError
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.meta import keys_of

_MARKS = {"ok": ("✔", "green"), "warn": ("!", "yellow"), "fail": ("✘", "red"), "skip": ("–", "dim")}


@click.command()
@project_option
@click.option("--host", help="Look only at the workers of this host: whether they live and take what waits.")
@store_options
def doctor(project: Path | None, host: str | None, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Say what is wrong with this set-up, and what to do.

    Changes nothing. Exits with 1 when a check failed; warnings do not count.
    """
    show: Callable[[Finding], None] = (lambda _: None) if as_json else _print
    found = []
    for finding in examine(project, redis_url, data) if host is None else examine_host(host, redis_url, data):
        found.append(finding)
        show(finding)
    failed = [finding for finding in found if finding.state == "fail"]
    if as_json:
        rows = [{"check": f.check, "state": f.state, "said": f.said, "todo": f.todo} for f in found]
        shown.print_json({"ok": not failed, "findings": rows})
    else:
        _sum_up(found, len(failed))
    return ExitCode.FAILED if failed else ExitCode.OK


def examine(project: Path | None, redis_url: str | None, data: Path) -> Iterator[Finding]:
    """All findings, in the order in which a person would look."""
    yield check_python()
    yield check_langgraph()
    yield check_sqlite()
    try:
        settings = read_settings(redis_url, data)
    except ConfigError as problem:
        yield fail("settings", str(problem), "Correct the variable; no process starts with it.")
        yield from check_graphs(project)
        return
    yield ok("settings", "every variable that is set is valid")
    yield from check_graphs(project)
    yield from _examine_store(settings)
    yield from check_ports(settings)


def examine_host(host: str, redis_url: str | None, data: Path) -> Iterator[Finding]:
    """What can be said of the workers of one host. Raises ConfigError."""
    settings = read_settings(redis_url, data)
    if not settings.redis_url:
        yield fail("store", NO_STORE, "Start `runyard up`, or set REDIS_URL.")
        return
    keys = keys_of(settings)
    store = SyncStore.connect(settings.redis_url, retry_s=RETRY_S, vault=keys.vault)
    checks = check_host(Service(store, keys, settings, lambda _: None), host)
    yield from guarded(checks, "store", "Start the store, or correct REDIS_URL.")


def _examine_store(settings: Settings) -> Iterator[Finding]:
    if not settings.redis_url:
        yield fail("store", NO_STORE, "Start `runyard up`, or set REDIS_URL.")
        yield from without_store("there is no store")
        return
    keys = keys_of(settings)
    store = SyncStore.connect(settings.redis_url, retry_s=RETRY_S, vault=keys.vault)
    todo = "Start the store, or correct REDIS_URL."
    try:
        first = list(check_store(store, keys))
    except EngineError as problem:
        yield fail("store", str(problem), todo)
        yield from without_store("the store is away")
        return
    yield from first
    yield check_broker(settings)
    yield from guarded(check_workers(Service(store, keys, settings, lambda _: None), settings), "workers", todo)


def _print(finding: Finding) -> None:
    mark, style = _MARKS[finding.state]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(width=14, overflow="fold")
    table.add_column(overflow="fold")
    said = Text(finding.said, "" if finding.state in ("warn", "fail") else "dim")
    table.add_row(Text(mark, style), Text(finding.check, "bold"), said)
    if finding.todo:
        table.add_row("", "", Text.assemble(("→ ", style), finding.todo))
    shown.console().print(table)


def _sum_up(found: list[Finding], failed: int) -> None:
    warned = sum(finding.state == "warn" for finding in found)
    if failed or warned:
        click.echo(f"\n{failed} to mend, {warned} to know about.")
    else:
        click.echo("\nAll is well.")
