"""The command line before it does anything: help, usage, and that docs/cli.md says all of it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runyard.app.cli import COMMANDS, cli
from runyard.app.exit_codes import ExitCode

#: Commands that need no graph: they answer before LangGraph would be loaded.
ASKING = ("run", "resume", "status", "wait", "events", "records", "why", "cancel", "crons", "circuits", "keys")
PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
#: Each command's chapter of the page.
CHAPTERS = dict(re.findall(r"^## `runyard ([\w-]+)[^`]*`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def load(name: str) -> click.Command:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


def parts_of(name: str) -> list[tuple[click.Command, str]]:
    """A command with its chapter; of a group, its commands with their sections."""
    command = load(name)
    if not isinstance(command, click.Group):
        return [(command, CHAPTERS[name])]
    heading = rf"^### `runyard {name} ([\w-]+)[^`]*`\n(.*?)(?=^### |\Z)"
    sections = dict(re.findall(heading, CHAPTERS[name], re.MULTILINE | re.DOTALL))
    assert list(sections) == list(command.commands)
    return [(part, sections[part_name]) for part_name, part in command.commands.items()]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runyard.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_help_lists_every_command_and_imports_neither_the_engine_nor_celery() -> None:
    script = (
        "import sys; from runyard.app.cli import cli; cli(['--help'], standalone_mode=False);"
        "print([m for m in ('langgraph', 'celery', 'redis', 'flask') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout
    assert all(f"  {name} " in said for name in COMMANDS)
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_sentence_in_the_list_is_the_first_of_the_commands_own_help(name: str) -> None:
    assert load(name).get_short_help_str(limit=200) == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json(name: str) -> None:
    for command, _ in parts_of(name):
        assert any("--json" in parameter.opts for parameter in command.params)


def test_the_page_has_a_chapter_for_every_command_and_no_other() -> None:
    assert list(CHAPTERS) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_names_exactly_the_options_of_a_command(name: str) -> None:
    for command, chapter in parts_of(name):
        options = {opt for p in command.params for opt in [*p.opts, *p.secondary_opts] if opt.startswith("--")}
        rows = re.findall(r"^\| `(--[^`]+)`", chapter, re.MULTILINE)
        assert {word for row in rows for word in re.findall(r"--[\w-]+", row)} == options


def test_the_page_has_every_exit_code_with_its_number() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert {name: int(number) for number, name in rows} == {code.name: code.value for code in ExitCode}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "one"], "Invalid value for 'RUN': 'one' is not a UUID, like 0198f3c2-"),
        (["run", "research", "--input", '{"a": 1,\n]'], "'--input': not valid JSON at line 2 column 1: "),
        (["run", "research", "--input", "@nowhere.json"], "'--input': 'nowhere.json' cannot be read: No such file"),
        (["run", "research"], "a new thread needs --input: JSON, @file, or - for stdin"),
        (["run", "research", "--input", "{}", "--config", "[]"], "'--config': must be a JSON object, not a list"),
        (["run", "research", "--input", "{}", "--config", '{"recursion_limit": 0}'], "recursion_limit: must be a"),
        (["run", "research", "--input", "{}", "--thread", "mine"], "'--thread': 'mine' is not a UUID"),
        (["events", "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55", "--after", "7"], "'--after': '7' is not an event's id"),
        (["resume", "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55"], "Missing option '--value'"),
        (["rn"], "No such command 'rn'"),
    ],
)  # fmt: skip
def test_what_is_typed_wrong_is_one_line_that_names_it_and_the_accepted_form(
    arguments: list[str], message: str
) -> None:
    ran = run(*arguments)
    assert ran.returncode == ExitCode.USAGE
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stdout == ""


def test_with_json_a_usage_error_is_a_document_on_stderr() -> None:
    ran = run("status", "one", "--json")
    assert ran.returncode == ExitCode.USAGE
    assert ran.stderr.startswith('{"error": "usage", "message": "Invalid value for \'RUN\'')


def test_without_a_store_a_command_says_how_to_get_one(tmp_path: Path) -> None:
    ran = run("status", "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55", "--data", str(tmp_path))
    assert ran.returncode == ExitCode.UNAVAILABLE
    assert ran.stderr.startswith("error: no store: set REDIS_URL or start `runyard up`")


def test_a_store_that_does_not_answer_is_told_as_such() -> None:
    ran = run("status", "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55", "--redis-url", "unix:///nowhere/store.sock", "--json")
    assert ran.returncode == ExitCode.UNAVAILABLE
    assert '"error":"store_unavailable"' in ran.stderr


def test_a_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_LEASE_S", "soon")
    ran = run("status", "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55")
    assert ran.returncode == ExitCode.CONFIG
    assert ran.stderr.startswith("error: RUNYARD_LEASE_S='soon' is not valid: it must be a number.")


def test_an_unknown_graph_is_told_with_those_there_are() -> None:
    ran = run("run", "reserch", "--input", "{}")
    assert ran.returncode == ExitCode.NOT_FOUND
    assert "no graph 'reserch' in" in ran.stderr
    assert "research, approval, digest" in ran.stderr


def test_the_root_is_a_click_group_with_these_commands() -> None:
    with click.Context(cli) as context:
        assert cli.list_commands(context) == list(COMMANDS)
        assert cli.get_command(context, "nothing") is None


def test_a_command_that_asks_about_runs_loads_neither_langgraph_nor_celery() -> None:
    modules = sorted({COMMANDS[name][0].partition(":")[0] for name in ASKING})
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    slow = {"langgraph.graph", "langgraph.types", "langchain_core.runnables", "langsmith", "celery"}
    assert "runyard.engine.service" in ran.stdout.split()
    assert not slow & set(ran.stdout.split())


def test_a_worker_loads_neither_flower_nor_an_interactive_prompt() -> None:
    code = "import runyard.tasks.worker, runyard.tasks.lifecycle, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    idle = {"celery.bin.celery", "flower", "prompt_toolkit", "flask"}
    assert "celery.bin.worker" in ran.stdout.split()
    assert not idle & set(ran.stdout.split())
