"""Flower, set up for people: ``runyard flower``."""

from __future__ import annotations

import os
from typing import Any

import click
import structlog

from runyard.app.commands.problem import json_option
from runyard.app.place import refuse_open_flower
from runyard.engine.settings import Settings

#: Of each wake-up: what it is for, which run, how it went, what came of it. The first is a link to all the rest.
COLUMNS = "name,args,state,result,received,runtime,worker"


def with_reason(task: Any) -> Any:
    """A task that failed says why where the others say what came of them."""
    task.result = task.exception or task.result
    return task


@click.command("flower")
@click.option("--address", envvar="FLOWER_ADDRESS", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--port", envvar="FLOWER_PORT", default=5555, show_default=True, type=click.IntRange(0, 65535))
@json_option
def flower(address: str, port: int, *, as_json: bool) -> None:  # noqa: ARG001 - of its errors
    """Show the queue in a browser: which wake-ups there are, and what came of them.

    Refuses an address that others can reach unless FLOWER_BASIC_AUTH=user:password is set.
    """
    refuse_open_flower(address, os.environ)
    os.environ.setdefault("FLOWER_TASKS_COLUMNS", COLUMNS)
    from flower.options import options  # noqa: PLC0415 - slow, and only for those who want it

    from runyard.tasks.celery import app  # noqa: PLC0415 - reads the settings, which a refusal need not
    from runyard.tasks.observe import log_to_stdout  # noqa: PLC0415 - slow, too

    options.format_task = with_reason
    settings = Settings.from_env(os.environ)
    log_to_stdout(settings)
    structlog.get_logger(__name__).info("flower.starts", address=address, port=port)
    # Tornado's own way of logging would add handlers to ours; what Flower says of itself as it starts is in the line.
    how = ("--logging=none", "--purge_offline_workers=600", f"--address={address}", f"--port={port}")
    app.start(["--quiet", "flower", *how])
