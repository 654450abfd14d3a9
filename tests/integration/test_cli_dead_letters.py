"""Dead letters from the command line, on the store itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runyard.app.cli import cli as root
from runyard.app.commands.letter_options import Duration
from runyard.app.commands.letters_shown import own_frames
from runyard.app.exit_codes import ExitCode
from runyard.engine import wire
from runyard.engine.run import Run, Wake
from runyard.graphs.registry import Registry, load_project
from tests.integration.test_api_dead_letters import GIVEN, NOBODY, PROJECT
from tests.support.engine import Engine, engine


@dataclass
class Place:
    """A project with failing runs, and ``runyard dead-letters …`` on its store."""

    engine: Engine
    folder: Path
    redis_url: str

    def __call__(self, *arguments: str) -> Result:
        return self.runyard("dead-letters", *arguments)

    def runyard(self, *arguments: str) -> Result:
        env = {"REDIS_URL": self.redis_url, "RUNYARD_CONFIG": str(self.folder / "langgraph.json")}
        ran = CliRunner().invoke(root, arguments, env=env, standalone_mode=False)
        if ran.exception is not None and not hasattr(ran.exception, "exit_code"):
            raise ran.exception
        return ran

    async def take_up(self, run: Run) -> None:
        """Carry out the wake-up that the command has sent through the broker."""
        self.engine.wakes.append(Wake(run_id=run.run_id, queue="default"))
        await self.engine.drive()

    def out_of(self, run: Run) -> Any:
        return wire.decode(self.engine.service.get_thread(run.thread_id).values or b"{}")["out"]

    def mend(self) -> None:
        (self.folder / "mended").touch()

    async def fail(self, graph_id: str = "fan") -> Run:
        run = await self.engine.run(graph_id, GIVEN)
        assert run.status == "error"
        return run


def code_of(ran: Result) -> int:
    return int(getattr(ran.exception, "exit_code", None) or ran.return_value or 0)


def said(ran: Result) -> str:
    return ran.exception.format_message() if ran.exception else ran.output  # type: ignore[attr-defined]


@pytest.fixture
async def place(redis_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "graph.py").write_text(PROJECT)
    (tmp_path / "langgraph.json").write_text('{"graphs": {"fan": "./graph.py:fan", "lean": "./graph.py:lean"}}')
    registry = Registry(load_project(tmp_path / "langgraph.json"))
    async with engine(redis_url, {name: registry.load(name) for name in ("fan", "lean")}) as eng:
        yield Place(eng, tmp_path, redis_url)


async def test_dead_letters_are_listed_with_what_failed_and_how_many_there_are(place: Place) -> None:
    failed = [await place.fail() for _ in range(2)]
    text = place("list", "--limit", "1").output
    assert failed[1].run_id in text
    assert failed[0].run_id not in text
    assert "fan › work" in text
    assert "ZeroDivisionError: item 2" in text
    assert "1 of 2 dead letters; more with --offset 1" in text
    told = json.loads(place("list", "--json").output)
    assert (told["total"], [letter["run_id"] for letter in told["dead_letters"]]) == (
        2,
        [failed[1].run_id, failed[0].run_id],
    )


async def test_dead_letters_are_filtered(place: Place) -> None:
    await place.fail()
    for arguments, fits in [
        (["--graph", "fan", "--node", "work", "--younger-than", "1h"], True),
        (["--older-than", "1h"], False),
        (["--fingerprint", "0"], False),
        (["--graph-version", "0"], False),
    ]:
        assert (place("list", *arguments).output == "no dead letter fits\n") is not fits


async def test_show_tells_what_happened_without_the_runtimes_frames(place: Place) -> None:
    run = await place.fail()
    text = place("show", run.run_id).output
    for words in ("work #1", "→ gave up", "out: [1]", "items  [1,2,3]", 'raise ZeroDivisionError("item 2")'):
        assert words in text
    assert "site-packages" not in text
    assert f"runyard dead-letters replay {run.run_id}" in text
    assert json.loads(place("show", run.run_id, "--json").output)["attempts"][0]["attempt"] == 1


async def test_a_replay_takes_the_run_up_where_it_failed(place: Place) -> None:
    run = await place.fail()
    place.mend()
    assert place("replay", run.run_id).output == f"replaying {run.run_id}; see: runyard wait {run.run_id}\n"
    await place.take_up(run)
    assert place.out_of(run) == [1, 2, 3, 6]
    again = place("replay", run.run_id)
    assert code_of(again) == ExitCode.CONFLICT
    assert said(again) == f"Run {run.run_id} is not a dead letter; it is succeeded."


@pytest.mark.parametrize(
    ("repair", "out"),
    [
        (["--output", 'work={"out": [20]}'], [1, 20, 3, 24]),
        (["--skip", "work"], [1, 3, 4]),
        (["--output", 'work={"out": [5]}', "--goto", "work=total"], [1, 5, 3, 9]),
        # An edit begins a new superstep, in LangGraph too: what the failed one had saved is not part of it.
        (["--set", '{"out": [7]}', "--as-node", "work"], [7, 7]),
    ],
)
async def test_a_repair_is_made_before_the_replay(place: Place, repair: list[str], out: list[int]) -> None:
    run = await place.fail()
    ran = place("replay", run.run_id, *repair, "--json")
    assert json.loads(ran.output)["run_id"] == run.run_id
    await place.take_up(run)
    assert place.out_of(run) == out


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["RUN", "--skip", "total"], ExitCode.USAGE, "Node 'total' is not waiting to run; these are: work."),
        (["RUN", "--as-node", "plan"], ExitCode.USAGE, "as_node: says who wrote the values"),
        (["RUN", "--all"], ExitCode.USAGE, "give RUN or filters, not both"),
        (["RUN", "--output", "work"], ExitCode.USAGE, "'work' is not NODE=JSON"),
        (["RUN", "--output", "work={"], ExitCode.USAGE, "not valid JSON at line 1"),
        (["RUN", "--set", "[]"], ExitCode.USAGE, "must be a JSON object, not a list"),
        ([], ExitCode.USAGE, "name RUN, or what to replay by filters, or --all"),
        (["--all", "--wait"], ExitCode.USAGE, "--wait goes with one RUN"),
        (["--older-than", "soon"], ExitCode.USAGE, "'soon' is not a span of time, like 90s, 15m, 1h or 2d"),
        ([NOBODY], ExitCode.NOT_FOUND, f"Run {NOBODY} not found."),
    ],
)
async def test_a_replay_that_cannot_be_made_is_one_line_and_the_letter_stays(
    place: Place, arguments: list[str], exit_code: ExitCode, words: str
) -> None:
    run = await place.fail()
    ran = place("replay", *[run.run_id if word == "RUN" else word for word in arguments])
    assert code_of(ran) == exit_code
    assert words in said(ran)
    assert place("list").output.endswith("1 of 1 dead letters\n")


async def test_many_are_replayed_by_filter_with_progress(place: Place) -> None:
    failed = [await place.fail() for _ in range(2)]
    busy = await place.fail()
    place.engine.start("fan", GIVEN, thread_id=busy.thread_id)
    ran = place("replay", "--graph", "fan", "--rate", "1000")
    lines = [line.rstrip() for line in ran.output.splitlines()]
    assert lines[:2] == [f"{number}/3  ✔  {run.run_id}" for number, run in enumerate(failed, 1)]
    assert lines[2].startswith(f"3/3  ✘  {busy.run_id}  Another run has the thread")
    assert (lines[3], code_of(ran)) == ("2 replayed, 1 not", ExitCode.FAILED)
    told = [json.loads(line) for line in place("replay", "--all", "--json").output.splitlines()]
    assert (told[0]["replayed"], told[-1]) == (False, {"done": True, "replayed": 0, "refused": 1})


async def test_a_discarded_letter_says_why(place: Place) -> None:
    run = await place.fail()
    assert code_of(place("discard", run.run_id)) == ExitCode.USAGE
    assert place("discard", run.run_id, "--reason", "known bug").output == f"discarded {run.run_id}\n"
    again = place("discard", run.run_id, "--reason", "twice")
    assert (code_of(again), said(again).split("; ")[1]) == (ExitCode.CONFLICT, "it was discarded (known bug).")


async def test_an_export_is_one_letter_a_line(place: Place) -> None:
    failed = [await place.fail() for _ in range(2)]
    letters = [json.loads(line) for line in place("export", "--node", "work").output.splitlines()]
    assert [letter["run_id"] for letter in letters] == [failed[1].run_id, failed[0].run_id]
    assert "ZeroDivisionError" in letters[0]["traceback"]


async def test_partial_shows_each_nodes_part(place: Place) -> None:
    run = await place.fail()
    text = place.runyard("partial", run.run_id).output
    assert [line.split()[-3:-1] for line in text.splitlines() if "✔  work" in line] == [["✔", "work"], ["✔", "work"]]
    assert "✘  work  ZeroDivisionError('item 2')  (1 failed attempt)" in text
    lean = await place.engine.run("lean", GIVEN)
    told = place.runyard("partial", lean.run_id).output
    assert 'work {"i":2}  ZeroDivisionError: item 2  (nothing in its place)' in told
    assert "~  work   {}  (1 failed attempt)  (nothing in its place)" in told
    parts = json.loads(place.runyard("partial", lean.run_id, "--json").output)["parts"]
    assert parts[-1] | {"task_id": ""} == {
        "step": 3, "node": "total", "task_id": "", "status": "done", "result": {"out": [4]},
    }  # fmt: skip


async def test_a_graph_that_the_project_lacks_is_told_with_the_way_out(place: Place) -> None:
    run = await place.fail()
    (place.folder / "langgraph.json").write_text('{"graphs": {"lean": "./graph.py:lean"}}')
    ran = place("replay", run.run_id, "--skip", "work")
    assert code_of(ran) == ExitCode.NOT_FOUND
    assert "name its langgraph.json with --project" in said(ran)


@pytest.mark.parametrize(
    ("given", "seconds"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("1h", 3600.0), ("2d", 172800.0)]
)
def test_spans_of_time_are_read_with_their_units(given: str, seconds: float) -> None:
    assert Duration().convert(given, None, None) == seconds


def test_a_traceback_of_installed_code_alone_is_shown_whole() -> None:
    traceback = f'Traceback (most recent call last):\n  File "{json.__file__}", line 1, in x\n    y()\nValueError: z'
    assert own_frames(traceback) == traceback
