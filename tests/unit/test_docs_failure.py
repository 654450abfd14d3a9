"""docs/failure.md says what the code does: the fields of a policy, and repairs that would be accepted."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from runyard.app.commands.dead_letters import dead_letters
from runyard.app.schemas.dead_letters import BulkReplay, Discard, LetterFilter, Repair
from runyard.engine.policy import NodePolicy, policies_of
from runyard.engine.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "failure.md").read_text()
RUN = "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55"
SHELL = [
    line.replace("$RUN", RUN)
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
COMMANDS = [line for line in SHELL if line.startswith("runyard ")]
REQUESTS = [line for line in SHELL if line.startswith("curl ")]
DEFAULTS = {None: "none", True: "`true`", False: "`false`", "fail": "`fail`"}


def test_the_table_has_every_field_of_a_nodes_policy_with_its_default() -> None:
    table = PAGE.partition("<!-- policy:")[2].partition("<!-- /policy")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE)
    assert rows == [(field.name, DEFAULTS[field.default]) for field in dataclasses.fields(NodePolicy)]


def test_the_policies_of_the_example_are_accepted() -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for graph_id, overrides in json.loads(block)["runyard"]["policies"].items():
        made = policies_of(graph_id, dict.fromkeys(["search", "answer", "answer_short"]), overrides)
        assert (made["search"].required, made["answer"].fallback) == (False, "answer_short")


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_line_takes_every_example(line: str) -> None:
    _, group, name, *arguments = shlex.split(line.partition(" > ")[0])
    assert group == "dead-letters"
    with click.Context(dead_letters) as context:
        command = dead_letters.get_command(context, name)
    assert command is not None
    command.make_context(name, arguments)


@pytest.mark.parametrize("line", [line for line in REQUESTS if "--json" in line])
def test_the_api_takes_every_body(line: str) -> None:
    words = shlex.split(line)
    body: dict[str, Any] = json.loads(words[words.index("--json") + 1])
    url = next(word for word in words if "/dead-letters" in word)
    schema = Discard if url.endswith("/discard") else Repair if RUN in url else BulkReplay
    assert schema().load(body) == body


@pytest.mark.parametrize("line", [line for line in REQUESTS if "?" in line])
def test_the_api_takes_every_filter(line: str) -> None:
    (query,) = re.findall(r"\?([^']+)'", line)
    assert LetterFilter().load(dict(pair.split("=") for pair in query.split("&")))


def test_the_numbers_in_parentheses_are_the_defaults() -> None:
    told = re.findall(r"`(RUNYARD_\w+)` \((\d+)( days)?\)", PAGE)
    assert told
    known = {field.metadata["env"]: field.default for field in dataclasses.fields(Settings) if field.metadata}
    for name, number, days in told:
        assert known[name] == int(number) * (86400 if days else 1), name
