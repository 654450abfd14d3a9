"""A run as the commands print it: a JSON document, or words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import orjson
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.door import Door
from runyard.app.commands.letters_shown import told_missing
from runyard.app.shapes import reason
from runyard.engine.errors import ThreadNotFound
from runyard.engine.run import TERMINAL, Phase, Run

_WORDS = {
    Phase.QUEUED: "behind another run of its thread",
    Phase.DUE: "waits for its time",
    Phase.PARKED: "parked",
    Phase.WAITING: "waits for a worker",
    Phase.LEASED: "a worker has it in hand",
    Phase.CANCELLING: "its end was asked for",
    Phase.DISPATCHED: "its nodes run on other workers",
    Phase.SUCCEEDED: "the graph ran to its end",
    Phase.PAUSED: "waits for an answer or at a breakpoint",
    Phase.FAILED: "failed",
    Phase.TIMED_OUT: "took longer than it may",
    Phase.CANCELLED: "was cancelled",
}

_WAITS = frozenset({Phase.QUEUED, Phase.DUE, Phase.PARKED, Phase.WAITING, Phase.DISPATCHED, Phase.PAUSED})


def document(run: Run) -> dict[str, Any]:
    """The fields of a run that a program may want; instants in ISO 8601."""
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "graph_id": run.graph_id,
        "status": run.status,
        "phase": run.phase,
        "queue": run.queue,
        "created_at": _instant(run.created_at),
        "started_at": _instant(run.started_at),
        "progress_at": _instant(run.progress_at),
        "ended_at": _instant(run.ended_at),
        "due_at": _instant(run.due_at),
        "slices": run.slices,
        "crashes": run.crashes,
        "error": run.error,
        "degraded": run.degraded,
        "metadata": run.metadata,
    }


def print_run(run: Run, asked: Sequence[dict[str, Any]] = ()) -> None:
    """Where a run stands, in words, on stdout."""
    out = shown.console()
    status = Text.assemble((run.status, shown.STATUS_STYLE.get(run.status, "cyan")), f"  {_WORDS[run.phase]}")
    rows: dict[str, Any] = {"run": run.run_id, "thread": run.thread_id, "graph": run.graph_id, "status": status}
    rows |= {"created": _instant(run.created_at) or "", "took": _took(run)}
    if run.crashes:
        rows["crashes"] = f"{run.crashes} (workers that died over it since it last came further)"
    if run.error:
        rows["error"] = Text(f"{run.error['error']}: {run.error['message']}", "red")
    if run.phase in _WAITS:
        rows["waits"] = Text(reason(run, asked), "yellow")
    if missing := told_missing(run.degraded):
        rows["did without"] = missing
    out.print(shown.facts({name: value for name, value in rows.items() if value}))


def print_end(door: Door, run: Run, *, as_json: bool) -> None:
    """What a run came to: its result on stdout, what is to be known about it on stderr."""
    result = result_of(door, run) if run.phase in TERMINAL else None
    if as_json:
        shown.print_json({**document(run), "result": result})
        return
    err = shown.console(err=True)
    if run.error:
        err.print(Text(f"error: {run.error['error']}: {run.error['message']}", "red"), soft_wrap=True)
    elif run.phase is Phase.PAUSED:
        click.echo(f"paused; go on with: runyard resume {run.run_id} --value JSON", err=True)
    elif run.phase is Phase.CANCELLED:
        click.echo("cancelled", err=True)
    if missing := told_missing(run.degraded):
        err.print(shown.facts({"did without": missing}))
    if run.phase in (Phase.SUCCEEDED, Phase.PAUSED, Phase.CANCELLED):
        click.echo(shown.pretty(result))


def result_of(door: Door, run: Run) -> Any:
    """The result of an ended run: the thread's values, with ``__interrupt__`` or ``__error__`` where there is one."""
    if door.service.last_is_end(run.run_id):
        return orjson.loads(next(data for data in door.service.result(run) if data is not None))
    if run.error:  # its events were forgotten: the record and the thread still know
        return {"__error__": {"error": run.error["error"], "message": run.error["message"]}}
    try:
        return orjson.loads(door.service.get_thread(run.thread_id).values or b"{}")
    except ThreadNotFound:
        return None


def _took(run: Run) -> str:
    if run.started_at is None:
        return ""
    return shown.duration((run.ended_at or run.progress_at or run.started_at) - run.started_at)


def _instant(ms: int | None) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds") if ms else None
