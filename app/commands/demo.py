"""``runyard demo``: the whole stack answers one question, and one watches it do so."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx

from runyard.app.commands.demo_client import Client, Ended, Started
from runyard.app.commands.demo_stack import DidNotStart, Stack, StoppedByUser, stack
from runyard.app.commands.demo_view import DemoView, JsonView
from runyard.app.commands.problem import Problem, json_option
from runyard.app.commands.progress import Progress
from runyard.app.exit_codes import ExitCode
from runyard.app.up import Stop

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
DEAD = ("sections", "paragraphs", "definitions", "model")
QUESTION = "What happens to a run when its worker is killed?"


@dataclass
class Story:
    """What the demo has to tell, as far as it has come."""

    question: str
    docs: Path | None
    dead: tuple[str, ...]
    progress: Progress
    started: Started | None = None
    result: dict[str, Any] | None = None
    degraded: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0


@click.command()
@click.option("--docs", type=FOLDER, help="Folder of text files. Default: this project's README and docs.")
@click.option("--ask", metavar="QUESTION", help=f"Default: {QUESTION}")
@click.option(
    "--dead",
    multiple=True,
    type=click.Choice(DEAD),
    help="Let this fail, and see what the answer does without it. May be repeated.",
)
@json_option
def demo(docs: Path | None, ask: str | None, dead: tuple[str, ...], as_json: bool) -> int:
    """Answer a question about your documents with the whole stack, live.

    Starts a store, web, workers and Flower, asks over HTTP, shows the run's events and stops everything.
    """
    began = time.monotonic()
    story = Story((ask or "").strip() or QUESTION, docs, dead, Progress())
    view = JsonView() if as_json else DemoView()
    try:
        with Stop().listening() as stop, stack(docs, stop) as running:
            _play(running, story, view)
            story.seconds = time.monotonic() - began
            view.end(running, story)
    except StoppedByUser:
        return ExitCode.STOPPED_BY_USER
    except DidNotStart as problem:
        raise Problem(str(problem), ExitCode.NOT_READY, code=problem.code, log=problem.log) from problem
    except httpx.HTTPError as problem:
        raise Problem(f"the API answered: {problem}", ExitCode.FAILED, code="api_error") from problem
    return ExitCode.FAILED if "__error__" in (story.result or {}) else ExitCode.OK


def _play(running: Stack, story: Story, view: DemoView | JsonView) -> None:
    with view.starting(running) as redraw:
        running.wait_until_up(redraw)
    with Client(running.place.url, story.question, story.dead) as client:
        story.progress = Progress(client.deciding())
        view.ask(story)
        client.start()
        with view.running(story) as redraw:
            while story.result is None:
                running.turn()
                _listen(client, story)
                redraw()


def _listen(client: Client, story: Story) -> None:
    for message in client.messages():
        match message:
            case Started():
                story.started = message
            case Ended(result, degraded):
                story.result, story.degraded = result, degraded
                story.progress.take("end", None, 0)
            case told:
                story.progress.take(told.name, told.data, told.at_ms)
