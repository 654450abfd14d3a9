"""How the demo looks: to people, and to programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.demo_stack import NAMES, STORE, Stack
from runyard.app.commands.letters_shown import told_missing
from runyard.app.commands.progress import Row
from runyard.app.processes import FLOWER, WEB, WORKER, WORKER_CPU

if TYPE_CHECKING:
    from runyard.app.commands.demo import Story

WIDEST = 100
#: Sources that are listed; the answer names all of them.
SOURCES = 8


class DemoView:
    """Writes to stdout: processes, question, progress, answer, and where everything was."""

    def __init__(self) -> None:
        self._out = shown.console()
        self._out.width = min(self._out.width, WIDEST)

    @contextmanager
    def starting(self, stack: Stack) -> Iterator[Callable[[], None]]:
        """The processes as they come up."""
        self._out.print(Text.assemble("\n", ("Runyard", "bold"), "  starting the whole stack on this machine\n"))
        if not self._out.is_terminal:
            yield lambda: None
            self._out.print(_processes(stack))
            return
        with Live(console=self._out, refresh_per_second=12, get_renderable=lambda: _processes(stack)):
            yield lambda: None

    def ask(self, story: Story) -> None:
        where = str(story.docs) if story.docs else "README.md and docs/ of this project"
        facts = {"": "", "question": Text(story.question, "bold"), "documents": where}
        if story.dead:
            facts["dead"] = Text(", ".join(story.dead), "yellow")
        self._out.print(shown.facts(facts))
        self._out.print()

    @contextmanager
    def running(self, story: Story) -> Iterator[Callable[[], None]]:
        """The nodes as they run."""
        with shown.View(story.progress, self._out).shown() as view:
            yield view.refresh

    def end(self, stack: Stack, story: Story) -> None:
        result = story.result or {}
        self._out.print()
        self._answer(result)
        self._without(story)
        self._out.print(Rule(style="dim"))
        self._out.print(_totals(story))
        self._out.print(Text("\n  While this ran, these were up:\n"))
        for name, url in addresses(stack, story).items():
            self._out.print(Text.assemble("  ", (f"{name:<10}", "dim"), (url, "cyan")), soft_wrap=True)
        keep = Text.assemble(
            "\n  To keep them, and ask again over HTTP:  ", ("make up", "bold"), "  (or ", ("runyard up", "bold"), ")\n"
        )
        self._out.print(keep)

    def _without(self, story: Story) -> None:
        """What the run did without, as its record says."""
        if missing := told_missing(story.degraded):
            self._out.print(Rule("Done without", style="dim", align="left"))
            self._out.print(Padding(missing, (1, 2)))

    def _answer(self, result: dict[str, Any]) -> None:
        if error := result.get("__error__"):
            self._out.print(Padding(Text(f"The run failed: {error['error']}: {error['message']}", "red"), (0, 0, 1, 2)))
            return
        self._out.print(Rule("Answer", style="dim", align="left"))
        answer = Text(str(result.get("answer", "")))
        answer.highlight_regex(r"(?m)^\[\d+\] .*$", "bold")
        self._out.print(Padding(answer, (1, 2)))
        if sources := result.get("sources"):
            self._out.print(Rule("Sources", style="dim", align="left"))
            self._out.print(Padding(Text("   ".join(sources[:SOURCES]), "cyan"), (1, 2)))


class JsonView:
    """One document at the end."""

    @contextmanager
    def starting(self, _: Stack) -> Iterator[Callable[[], None]]:
        yield lambda: None

    def ask(self, story: Story) -> None:
        pass

    @contextmanager
    def running(self, _: Story) -> Iterator[Callable[[], None]]:
        yield lambda: None

    def end(self, stack: Stack, story: Story) -> None:
        result = story.result or {}
        shown.print_json({
            "question": story.question,
            "answer": result.get("answer"),
            "sources": result.get("sources", []),
            "model": result.get("model"),
            "error": result.get("__error__"),
            "degraded": story.degraded,
            "nodes": [_row(row) for row in story.progress.rows],
            "seconds": round(story.seconds, 2),
            "started_s": {name: round(seconds, 2) for name, seconds in stack.up.items()},
            "were_up": addresses(stack, story),
        })  # fmt: skip


def _row(row: Row) -> dict[str, Any]:
    return {"node": row.node, "count": row.count, "ms": row.took_ms, "notes": row.notes, "decision": row.decision}


def addresses(stack: Stack, story: Story) -> dict[str, str]:
    """Where things were while the demo ran."""
    facts = stack.place.facts()
    started = story.started
    status = f"{stack.place.url}/threads/{started.thread_id}/runs/{started.run_id}" if started else facts["status"]
    return {"status": status, "API docs": facts["docs"], "Flower": facts["flower"]}


def _processes(stack: Stack) -> RenderableType:
    what = {
        STORE: "embedded; every write is on disk before its answer",
        WEB.name: f"the API, {stack.place.url}",
        WORKER.name: "takes runs forward, many at once",
        WORKER_CPU.name: "CPU-bound nodes, in processes of their own",
        FLOWER.name: f"shows the queue, http://127.0.0.1:{stack.place.flower_port}",
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(min_width=12)
    table.add_column(justify="right", min_width=7, style="dim")
    table.add_column(style="dim")
    for name in NAMES:
        up = name in stack.up
        mark = Text("✔", "green") if up else Spinner("dots", style="cyan")
        table.add_row(mark, Text(name, "bold"), shown.duration(stack.up[name] * 1000) if up else "", what[name])
    return Padding(table, (0, 0, 0, 2))


def _totals(story: Story) -> RenderableType:
    rows = story.progress.rows
    took = max((row.ended_ms for row in rows), default=0) - min((row.started_ms for row in rows), default=0)
    model = (story.result or {}).get("model")
    return shown.facts({
        "run": f"{sum(row.count for row in rows)} node executions in {shown.duration(took)}, each saved as it ended",
        "model": model or "none; RUNYARD_MODEL names one that writes the answer",
        "in all": f"{story.seconds:.1f} s, the start of every process included",
    })  # fmt: skip
