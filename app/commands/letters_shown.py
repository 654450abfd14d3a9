"""Dead letters and partial results in a terminal."""

from __future__ import annotations

import re
import sysconfig
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runyard import engine
from runyard.app.commands import shown
from runyard.engine import wire

Json = dict[str, Any]

#: Longer values are cut; --json has all of them.
LONGEST = 600
_NOT_OWN = ("site-packages", sysconfig.get_path("stdlib"), str(Path(engine.__file__).parent))
_MARKS = {"done": ("✔", "green"), "failed": ("✘", "red"), "waiting": ("‖", "yellow"), "open": ("…", "cyan")}


def print_letters(letters: list[Json], *, total: int, offset: int) -> None:
    """Two lines for each letter, so that a whole id fits beside them on a narrow screen."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for letter in letters:
        table.add_row(Text(letter["run_id"], "bold"), _where(letter))
        table.add_row(Text(f"  fingerprint {letter['fingerprint']}", "dim"), Text(_error(letter), "red"))
    if letters:
        shown.console().print(table)
    seen = offset + len(letters)
    more = f"; more with --offset {seen}" if seen < total else ""
    click.echo(f"{len(letters)} of {total} dead letters{more}" if total else "no dead letter fits")


def print_letter(letter: Json) -> None:
    """All that a person wants to see before a repair."""
    out = shown.console()
    checkpoint = letter["checkpoint"] or {}
    rows: dict[str, RenderableType] = {
        "run": letter["run_id"],
        "thread": letter["thread_id"],
        "graph": f"{letter['graph_id']}  version {letter['graph_fingerprint'] or 'unknown'}",
        "failed": f"{ago(letter['failed_at'])}, {(letter['failed_at'] or '')[:19]} UTC",
        "node": str(letter["node"] or "none: the graph could not go on"),
        "error": Text(_error(letter), "red"),
        "fingerprint": letter["fingerprint"],
        "replays": str(letter["replays"]),
        "stands at": f"step {checkpoint['step']}, checkpoint {checkpoint['checkpoint_id']}" if checkpoint else "",
    }
    out.print(shown.facts({name: value for name, value in rows.items() if value}))
    _section("attempts", _attempts(letter["attempts"]))
    _section("finished beside it, and kept", _writes(letter["siblings"]))
    _section("did without", told_missing(letter["degraded"]))
    _section("state", _values(letter["values"] or {}))
    _section("traceback", Text(cut(own_frames(letter["traceback"] or ""), 4000), "dim"))
    click.echo(f"\ntry again what failed:  runyard dead-letters replay {letter['run_id']}")


def print_replayed(number: int, total: int, run_id: str, refused: str | None) -> None:
    """A line of a bulk replay, as it happens."""
    mark = Text("✘", "red") if refused else Text("✔", "green")
    line = Text.assemble((f"{number:>{len(str(total))}}/{total}  ", "dim"), mark, f"  {run_id}", f"  {refused or ''}")
    shown.console().print(line, soft_wrap=True)


def print_partial(told: Json) -> None:
    """Each step's nodes, with what they returned, failed with or ask."""
    out = shown.console()
    status = Text.assemble((told["status"], shown.STATUS_STYLE.get(told["status"], "cyan")), f"  {told['reason']}")
    out.print(shown.facts({"run": told["run_id"], "status": status}))
    _section("did without", told_missing(told["degraded"]))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before, instead = None, {part["task_id"]: part["instead"] for part in told["degraded"]}
    for part in told["parts"]:
        step = f"step {part['step']}" if part["step"] != before else ""
        given = instead.get(part["task_id"])
        mark, style = ("~", "yellow") if given else _MARKS[part["status"]]
        table.add_row(step, Text(mark, style), Text(part["node"], "bold"), _produced(part, told["attempts"], given))
        before = part["step"]
    _section("nodes", table if told["parts"] else Text("nothing yet", "dim"))


def _produced(part: Json, attempts: dict[str, int], instead: str | None) -> Text:
    tried = attempts.get(part["task_id"], 0)
    failed = f"  ({tried} failed attempt{'s' if tried > 1 else ''})" if tried else ""
    match part["status"]:
        case "done":
            given = f"  ({instead} in its place)" if instead else ""
            return Text(cut(wire.encode(part["result"]).decode()) + failed + given)
        case "failed":
            return Text(cut(part["error"]) + failed, "red")
        case "waiting":
            return Text("asks " + cut(wire.encode([asked["value"] for asked in part["interrupts"]]).decode()), "yellow")
    return Text("not finished" + failed, "dim")


def _section(title: str, content: RenderableType | None) -> None:
    if content is None or (isinstance(content, Text) and not content.plain):
        return
    shown.console().print(Text(f"\n{title}", "bold"), Padding(content, (0, 0, 0, 2), expand=False), sep="\n")


def _attempts(records: list[Json]) -> RenderableType | None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for record in records:
        said = Text.assemble(
            (f"{record['error']}: {cut(record['message'], 300)}", "red"),
            ("  → ", "cyan"),
            record["decision"],
            (f"\nslice {record['slice']}, worker {record['worker']}", "dim"),
        )
        took = Text(shown.duration(record["duration_ms"]), "dim")
        table.add_row(Text(f"{record['node']} #{record['attempt']}", "bold"), took, said)
    return table if records else None


def _writes(siblings: list[Json]) -> RenderableType | None:
    lines = [Text(f"{item['channel']}: {cut(wire.encode(item['value']).decode(), 200)}") for item in siblings]
    return Group(*lines) if lines else None


def _values(values: Json) -> RenderableType | None:
    lines = [Text.assemble((name, "dim"), f"  {cut(wire.encode(value).decode())}") for name, value in values.items()]
    return Group(*lines) if lines else None


def told_missing(degraded: list[Json]) -> RenderableType | None:
    """What a run did without, a line each; None when there is nothing to tell."""
    lines = [
        Text.assemble(
            (part["node"], "bold"),
            f" {_short(wire.encode(part['input']).decode())}" if "input" in part else "",
            "  ",
            (_error(part), "yellow"),
            f"  ({_instead(part)} in its place)",
        )
        for part in degraded
    ]
    return Group(*lines) if lines else None


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _instead(part: Json) -> str:
    return f"a result {shown.duration(part['age_s'] * 1000)} old" if "age_s" in part else str(part["instead"])


def _where(letter: Json) -> Text:
    where = f"{letter['graph_id']} › {letter['node']}" if letter["node"] else letter["graph_id"]
    replays = f", replayed {letter['replays']}×" if letter["replays"] else ""
    parked = ("  parked", "yellow") if letter.get("phase") == "parked" else ""
    return Text.assemble((where, "bold"), parked, (f"  {ago(letter['failed_at'])}{replays}", "dim"))


def _error(told: Json) -> str:
    return cut(f"{told['error']}: {told['message']}")


def own_frames(traceback: str) -> str:
    """A traceback without the frames of the runtime and of installed packages; all of it when there are no others."""
    head, *frames = re.split(r'^(?=  File ")', traceback, flags=re.MULTILINE)
    own = [frame for frame in frames if not any(place in frame.partition("\n")[0] for place in _NOT_OWN)]
    if not own or len(own) == len(frames):
        return traceback.rstrip()
    last = frames[-1]
    # The error's own lines follow the last frame; a frame's lines are indented deeper.
    said = "" if last in own else "".join(re.findall(r"^(?! {4}).*\n?", last.partition("\n")[2], re.MULTILINE))
    left_out = f"  … {len(frames) - len(own)} frames of the runtime and of packages; --json has them\n"
    return (head + left_out + "".join(own) + said).rstrip()


def cut(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters; --json has all)"


def ago(instant: str | None) -> str:
    """How long ago an ISO instant was, roughly."""
    if instant is None:
        return "at an unknown time"
    seconds = max(0, round(time.time() - datetime.fromisoformat(instant).timestamp()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
