"""What happened in a run: ``runyard records`` and ``runyard why``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.door import Door, open_door, store_options
from runyard.app.commands.values import EventId, Id
from runyard.app.exit_codes import ExitCode
from runyard.app.shapes import of_record
from runyard.engine import records as ledger, wire
from runyard.engine.record import Kind, Status
from runyard.engine.run import TERMINAL
from runyard.engine.why import Why, cost_line

Json = dict[str, Any]
#: How often a ledger that is followed is looked at, in seconds.
LOOK_S = 0.3
_MARKS = {
    Status.OK: ("✔", "green"), Status.ERROR: ("✘", "red"), Status.TIMEOUT: ("✘", "red"),
    Status.INTERRUPTED: ("‖", "yellow"), Status.CANCELLED: ("■", "yellow"), Status.LOST: ("✘", "red"),
}  # fmt: skip


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), help="Only records of this kind.")
@click.option("--node", help="Only of this node, and of graphs that it called.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only what ended so.")
@click.option("--after", type=EventId(), default="0-0", help="Only what came after this record; its id is in --json.")
@store_options
def records(
    run_id: str, follow: bool, kind: str | None, node: str | None, status: str | None, after: str,
    redis_url: str | None, data: Path, as_json: bool,
) -> int:  # fmt: skip
    """Print every attempt, call and decision of RUN.

    With --json one record a line, with every field.
    """
    door = open_door(redis_url, data)
    wanted = ledger.Filter(kind=kind, node=node, status=status)
    seen = False
    for record in _followed(door, run_id, wanted, after) if follow else _read(door, run_id, wanted, after):
        seen = True
        click.echo(wire.encode(of_record(record))) if as_json else _print(record)
    if not seen and not as_json:
        click.echo("no record fits", err=True)
    return ExitCode.OK


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@store_options
def why(run_id: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Say in plain words why RUN is where it is, and what to do.

    What failed, where, after what attempts, what was decided before, what it cost.
    """
    door = open_door(redis_url, data)
    run = door.service.get_run(run_id)
    found = door.service.why(run)
    if as_json:
        click.echo(wire.encode(found.told(run)))
    else:
        _explain(found, run.run_id, run.graph_id, run.status)
    return ExitCode.OK


def _read(door: Door, run_id: str, wanted: ledger.Filter, after: str) -> Iterator[Json]:
    run = door.service.get_run(run_id)
    return ledger.read(door.service.store, door.service.keys, run, wanted, after=after)


def _followed(door: Door, run_id: str, wanted: ledger.Filter, after: str) -> Iterator[Json]:
    while True:
        run = door.service.get_run(run_id)  # before the look: what it wrote before its end is then seen
        for record in ledger.read(door.service.store, door.service.keys, run, ledger.Filter(), after=after):
            after = record["id"]
            if wanted.takes(record):
                yield record
        if run.phase in TERMINAL:
            return
        time.sleep(LOOK_S)


def _print(record: Json) -> None:
    """One line for a thing that went well, two where there is more to say."""
    at = record["timestamp"]
    clock = f"{time.strftime('%H:%M:%S', time.localtime(at / 1000))}.{at % 1000:03d}"
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(width=1)
    table.add_column(width=8, no_wrap=True, style="dim")
    table.add_column(min_width=22, overflow="fold")
    table.add_column(width=8, justify="right", no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    mark, style = _MARKS[record["status"]]
    took = "" if record["latency_ms"] is None else shown.duration(record["latency_ms"])
    table.add_row(clock, Text(mark, style), record["kind"], _what(record), took, _said(record))
    shown.console().print(table)


def _what(record: Json) -> Text:
    node, attempt = record["node"] or "–", record["attempt"] or 1
    again = f" #{attempt}" if attempt > 1 else ""
    if record["tool"]:
        return Text.assemble((f"{node} › ", "dim"), (record["tool"], "bold"))
    return Text.assemble((node, "bold"), (again, "yellow"))


def _said(record: Json) -> RenderableType:
    parts: list[tuple[str, str]] = []
    if record["kind"] == Kind.DECISION:
        parts.append((f"→ {record['decision']}", "cyan"))
    if record["status"] != Status.OK:
        parts.append((record["status"], _MARKS[record["status"]][1]))
    if record["error"]:
        parts.append((record["error"], "red"))
    if record["decision"] and record["kind"] != Kind.DECISION:
        parts.append((f"→ {record['decision']}", "cyan"))
    if record["kind"] == Kind.TOOL and record["args"]:
        parts.append((wire.encode(record["args"]).decode(), "dim"))
    if tokens := record["tokens_used"]:
        money = "" if record["cost"] is None else f", {record['cost']:g}"
        parts.append((f"{tokens['in']} tokens in, {tokens['out']} out{money}", "dim"))
    if (record["queue_ms"] or 0) >= 1:
        parts.append((f"waited {shown.duration(record['queue_ms'])}", "dim"))
    return Text("  ").join(Text(text, style) for text, style in parts)


def _explain(found: Why, run_id: str, graph_id: str, status: str) -> None:
    out = shown.console()
    style = shown.STATUS_STYLE.get(status, "cyan")
    out.print(Text.assemble((f"{graph_id}  ", "bold"), (run_id, "dim"), (f"  {status}", style)))
    out.print(
        Padding(
            Text(found.headline, f"bold {style}" if status in ("error", "timeout") else "bold"),
            (1, 0, 0, 2),
            expand=False,
        )
    )
    for line in found.story:
        out.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
    for title, lines in (("attempts that did not go well", found.attempts), ("decided before", found.decisions)):
        if lines:
            out.print(Text(f"\n{title}", "bold"))
            for line in lines:
                out.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
    out.print(Text("\ncost", "bold"))
    out.print(Padding(Text(cost_line(found.cost)), (0, 0, 0, 2), expand=False))
    if found.next:
        out.print(Text("\nwhat to do", "bold"))
        for command, meant in found.next:
            out.print(Padding(Text(command, "cyan"), (0, 0, 0, 2), expand=False), soft_wrap=True)
            out.print(Padding(Text(meant, "dim"), (0, 0, 0, 6), expand=False))
