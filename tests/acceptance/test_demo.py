"""``runyard demo``, as `make demo` runs it: it answers, looks right, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from runyard.app.exit_codes import ExitCode
from tests.support.eventually import eventually
from tests.support.processes import descendants_of, is_alive

pytestmark = pytest.mark.timeout(120)

ASKED = "How often does the lighthouse keeper wind the clock?"
DOCS = {
    "clock.md": "# The clock\n\nThe lighthouse keeper winds the clock every third day, after the lamp is out.\n",
    "boats.md": "# Boats\n\nA boat brings bread and letters once a week when the sea is calm.\n",
}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    for name, text in DOCS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the demo's store lives; short, as a socket's path must be."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def start(*options: str, scratch: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runyard.app.cli", "demo", *options],
        env={**os.environ, "TMPDIR": str(scratch), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_in(scratch: Path) -> list[str]:
    return [path.name for path in scratch.iterdir() if path.name.startswith("runyard")]


def test_it_answers_from_the_given_documents_and_names_the_sources(docs: Path, scratch: Path) -> None:
    process = start("--docs", str(docs), "--ask", ASKED, "--json", scratch=scratch)
    said, wrong = process.communicate(timeout=100)
    assert process.returncode == ExitCode.OK, wrong
    told = json.loads(said)
    assert told["question"] == ASKED
    assert "winds the clock every third day" in told["answer"]
    assert any(source.startswith("clock.md:") for source in told["sources"])
    assert [node["node"] for node in told["nodes"]][:3] == ["check", "plan", "search"]
    assert told["nodes"][1]["decision"] == "search ×3"
    assert all(node["ms"] >= 0 and node["notes"] for node in told["nodes"][:4])
    assert set(told["started_s"]) == {"store", "web", "worker", "worker-cpu", "flower"}
    assert left_in(scratch) == []


def test_a_person_reads_processes_nodes_the_answer_and_where_everything_was(docs: Path, scratch: Path) -> None:
    process = start("--docs", str(docs), "--ask", ASKED, scratch=scratch)
    said, wrong = process.communicate(timeout=100)
    assert (process.returncode, wrong) == (ExitCode.OK, "")
    order = ["✔  store", "✔  web", "✔  worker", "✔  flower", ASKED, "✔  plan", "→ search ×3", "✔  answer",
             "Answer", "every third day", "Sources", "clock.md:", "status", "/docs", "Flower", "make up"]  # fmt: skip
    rest = said
    for words in order:
        assert words in rest, f"{words!r} is missing, or not in its place:\n{said}"
        rest = rest.partition(words)[2]
    assert "\x1b" not in said  # a pipe gets no colours


def test_ctrl_c_ends_it_and_nothing_is_left(docs: Path, scratch: Path) -> None:
    process = start("--docs", str(docs), scratch=scratch)
    eventually(lambda: len(descendants_of(process.pid)) >= 5, timeout_s=30)
    children = descendants_of(process.pid)
    process.send_signal(signal.SIGINT)
    _, wrong = process.communicate(timeout=60)
    assert (process.returncode, wrong) == (ExitCode.STOPPED_BY_USER, "")
    assert [pid for pid in children if is_alive(pid)] == []
    assert left_in(scratch) == []


def test_a_process_that_does_not_come_up_is_named_with_the_end_of_its_log(docs: Path, scratch: Path) -> None:
    process = start("--docs", str(docs), scratch=scratch, env={"RUNYARD_WEB_THREADS": "many"})
    _, wrong = process.communicate(timeout=100)
    assert process.returncode == ExitCode.NOT_READY
    first, *log = wrong.splitlines()
    assert first == "error: web stopped by itself; the end of what it printed:"
    assert any("invalid int value: 'many'" in line for line in log)
    assert left_in(scratch) == []


def test_a_folder_without_text_is_told_as_the_runs_failure(scratch: Path) -> None:
    empty = scratch.parent / "empty"
    empty.mkdir()
    process = start("--docs", str(empty), "--json", scratch=scratch)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == ExitCode.FAILED
    assert "there is no text file to read" in json.loads(said)["error"]["message"]
