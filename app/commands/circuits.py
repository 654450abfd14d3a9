"""Circuits of the fleet: ``runyard circuits``."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.door import open_door, store_options
from runyard.app.commands.letters_shown import ago
from runyard.app.exit_codes import ExitCode
from runyard.app.shapes import of_circuit
from runyard.engine.circuit_desk import CircuitDesk

Json = dict[str, Any]
_STYLE = {"closed": "green", "open": "red", "half_open": "yellow"}


@click.group()
def circuits() -> None:
    """See the circuits of the fleet, and keep them open or closed."""


@circuits.command("list")
@store_options
def list_(redis_url: str | None, data: Path, as_json: bool) -> int:
    """List every circuit that a node has been called through."""
    found = [of_circuit(circuit) for circuit in _desk(redis_url, data).all()]
    if as_json:
        shown.print_json({"circuits": found})
    elif found:
        _print(found)
    else:
        click.echo("no node has been called through a circuit yet")
    return ExitCode.OK


def _setting(wanted: str, name: str, sentence: str) -> Callable[..., Any]:
    """A command that sets a circuit."""

    @circuits.command(name, help=sentence, short_help=sentence)
    @click.argument("circuit", metavar="NAME")
    @click.option("--reason", required=True, help="Why; shown with the circuit and kept in its history.")
    @store_options
    def command(circuit: str, reason: str, redis_url: str | None, data: Path, as_json: bool) -> int:
        if not reason.strip():
            raise click.BadParameter("say why, so that whoever finds the circuit knows", param_hint="'--reason'")
        desk = _desk(redis_url, data)
        now = of_circuit(desk.force(circuit, wanted, why=reason.strip(), by=_user()))
        kept = "kept " if now["forced"] else ""
        shown.print_json(now) if as_json else click.echo(f"circuit {circuit} is {kept}{now['mode']}")
        return ExitCode.OK

    return command


open_ = _setting("open", "open", "Keep circuit NAME open: no node is called through it.")
close = _setting("closed", "close", "Keep circuit NAME closed, whatever its calls come to.")
reset = _setting("auto", "reset", "Leave circuit NAME to itself again; it begins anew, closed.")


def _desk(redis_url: str | None, data: Path) -> CircuitDesk:
    service = open_door(redis_url, data).service
    return CircuitDesk(service.store, service.keys, service.wake)


def _said(one: Json) -> str:
    """What its calls came to, or when it lets some through again."""
    if one["until"]:
        left_s = max(0, round(datetime.fromisoformat(one["until"]).timestamp() - time.time()))
        said = f"tries in {left_s} s" if left_s else "tries with the next call"
    elif one["mode"] == "half_open":
        said = f"{one['trying']} calls try it"
    else:
        said = f"{one['calls']} calls in {one['thresholds'].get('window_s', 60):g} s"
        said += f", {one['errors']} failed, {one['slow']} slow"
    return f"{said}, {one['waiting']} parked" if one["waiting"] else said


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for it
        return "cli"


def _print(found: list[Json]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        mode = Text(one["mode"].replace("_", " "), _STYLE[one["mode"]])
        table.add_row(Text(one["name"], "bold"), mode, Text(_said(one), "dim"))
        if one["why"]:
            by = f" by {one['by']}" if one["by"] else ""
            table.add_row("", "", Text(f"{'kept so, ' if one['forced'] else ''}{ago(one['since'])}{by}: {one['why']}"))
    shown.console().print(table)
