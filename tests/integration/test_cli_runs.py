"""Runs from the command line, taken forward by a real worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from runyard.app.commands.door import local_store
from runyard.app.exit_codes import ExitCode
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(120)

GRAPH = """
import time
from typing import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

class State(TypedDict, total=False):
    do: str
    said: str

def act(state):
    get_stream_writer()({"progress": "asked to " + state["do"]})
    if state["do"] == "fail":
        raise ValueError("no good")
    while state["do"] == "hang":
        time.sleep(0.05)
    return {"said": interrupt("well?") if state["do"] == "ask" else state["do"]}

graph = StateGraph(State).add_node(act).add_edge(START, "act").add_edge("act", END).compile()
"""
NOBODY = "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55"
Ran = subprocess.CompletedProcess[str]
Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project, its store in the default place, and a worker."""
    folder = tmp_path_factory.mktemp("project with a space")  # so the store's socket has to go elsewhere
    (folder / "graph.py").write_text(GRAPH)
    (folder / "langgraph.json").write_text('{"graphs": {"acts": "./graph.py:graph"}}')
    with EmbeddedServer(folder / ".runyard") as server, (folder / "worker.log").open("wb") as log:
        env = {**os.environ, "REDIS_URL": server.url, "RUNYARD_CONFIG": str(folder / "langgraph.json")}
        options = ["-P", "threads", "-c", "20", "-Q", "default", "--without-mingle", "--without-gossip"]
        command = [sys.executable, "-m", "celery", "-A", "runyard.tasks.celery", "worker", *options]
        worker = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            yield folder
        finally:
            worker.kill()
            worker.wait()


@pytest.fixture
def cli(home: Path) -> Cli:
    """``runyard …`` in the project's folder, where it finds the store by itself."""

    def run(*arguments: str, stdin: str = "") -> Ran:
        return subprocess.run(command(*arguments), cwd=home, env=environment(home), input=stdin, capture_output=True,
                              text=True, timeout=50, check=False)  # fmt: skip

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runyard.app.cli", *arguments]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "RUNYARD_CONFIG": str(home / "langgraph.json")}


def started(cli: Cli, do: str) -> str:
    """The id of a run that was not waited for."""
    return cli("run", "acts", "--input", json.dumps({"do": do}), "--no-wait").stdout.strip()


def test_run_prints_the_result_on_stdout_and_the_run_on_stderr(cli: Cli) -> None:
    ran = cli("run", "acts", "--input", "-", stdin='{"do": "good"}')
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert json.loads(ran.stdout) == {"do": "good", "said": "good"}
    assert ran.stderr.startswith("run 0")


def test_run_with_stream_shows_the_nodes(cli: Cli) -> None:
    ran = cli("run", "acts", "--input", '{"do": "good"}', "--stream")
    assert "✔  act" in ran.stderr
    assert "asked to good" in ran.stderr
    assert "\x1b" not in ran.stderr


def test_run_with_stream_and_json_prints_every_event_as_a_line(cli: Cli) -> None:
    ran = cli("run", "acts", "--input", '{"do": "good"}', "--stream", "--json")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["event"] for line in lines][-1] == "end"
    assert {"tasks", "custom", "updates"} <= {line["event"] for line in lines}
    assert lines[-1]["data"]["result"]["said"] == "good"


def test_a_failed_run_is_one_line_and_exit_code_1(cli: Cli) -> None:
    ran = cli("run", "acts", "--input", '{"do": "fail"}')
    assert ran.returncode == ExitCode.FAILED
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[1:] == ["error: ValueError: no good"]


def test_a_run_that_asks_is_resumed_by_its_id(cli: Cli) -> None:
    asked = cli("run", "acts", "--input", '{"do": "ask"}', "--json")
    assert asked.returncode == ExitCode.PAUSED
    assert json.loads(asked.stdout)["result"]["__interrupt__"][0]["value"] == "well?"
    run_id = json.loads(asked.stdout)["run_id"]
    answered = cli("resume", run_id, "--value", '"very"')
    assert (answered.returncode, json.loads(answered.stdout)["said"]) == (ExitCode.OK, "very")
    again = cli("resume", run_id, "--value", '"very"')
    assert (again.returncode, again.stderr.count("\n")) == (ExitCode.CONFLICT, 1)
    assert "does not wait for an answer: it is idle" in again.stderr


def test_wait_gives_the_result_of_a_run_that_was_not_waited_for(cli: Cli) -> None:
    ran = cli("wait", started(cli, "good"))
    assert (ran.returncode, json.loads(ran.stdout)["said"]) == (ExitCode.OK, "good")


def test_wait_gives_up_after_its_timeout_and_cancel_ends_the_run(cli: Cli) -> None:
    run_id = started(cli, "hang")
    assert cli("wait", run_id, "--timeout", "0.3").returncode == ExitCode.TIMEOUT
    assert cli("cancel", run_id).stdout == f"cancelling {run_id}\n"
    ended = cli("status", run_id, "--watch", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["status"]) == (ExitCode.CANCELLED, "interrupted")


def test_a_run_that_has_ended_is_not_cancelled(cli: Cli) -> None:
    run_id = started(cli, "good")
    cli("wait", run_id)
    ran = cli("cancel", run_id)
    assert (ran.returncode, ran.stderr) == (ExitCode.CONFLICT, "error: The run is over already (succeeded).\n")


def test_a_run_that_was_rolled_back_is_not_found_any_more(cli: Cli) -> None:
    run_id = started(cli, "hang")
    eventually(lambda: json.loads(cli("status", run_id, "--json").stdout)["status"] == "running", timeout_s=20)
    assert json.loads(cli("cancel", run_id, "--rollback", "--json").stdout) == {"run_id": run_id, "action": "rollback"}
    eventually(lambda: cli("status", run_id).returncode == ExitCode.NOT_FOUND, timeout_s=20)


def test_status_says_where_a_run_stands_in_words_and_for_programs(cli: Cli) -> None:
    run_id = started(cli, "good")
    cli("wait", run_id)
    assert "success  the graph ran to its end" in cli("status", run_id).stdout
    assert json.loads(cli("status", run_id, "--json").stdout)["phase"] == "succeeded"


def test_events_are_told_from_the_start_or_after_one_that_was_seen(cli: Cli) -> None:
    run_id = started(cli, "good")
    every = [json.loads(line) for line in cli("events", run_id, "--follow", "--json").stdout.splitlines()]
    later = cli("events", run_id, "--after", every[1]["id"], "--json").stdout.splitlines()
    assert [json.loads(line) for line in later] == every[2:]
    assert "custom   {" in cli("events", run_id).stdout


def test_an_unknown_run_thread_and_graph_are_not_found_in_one_line(cli: Cli) -> None:
    for arguments in (["status", NOBODY], ["resume", NOBODY, "--value", "1"], ["run", "act", "--input", "{}"],
                      ["run", "acts", "--input", "{}", "--thread", NOBODY]):  # fmt: skip
        ran = cli(*arguments)
        assert (ran.returncode, len(ran.stderr.splitlines())) == (ExitCode.NOT_FOUND, 1), ran.stderr


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_come_back(cli: Cli, home: Path) -> None:
    run_id = started(cli, "hang")
    with subprocess.Popen(
        command("wait", run_id), cwd=home, env=environment(home), stderr=subprocess.PIPE, text=True
    ) as waiting:
        try:
            eventually(lambda: is_watched(home, run_id), timeout_s=30)
            waiting.send_signal(signal.SIGINT)
            _, said = waiting.communicate(timeout=30)
        finally:
            waiting.kill()
    assert (waiting.returncode, said.strip()) == (
        ExitCode.STOPPED_BY_USER,
        f"no longer watching; the run goes on: runyard wait {run_id}",
    )
    cli("cancel", run_id)


def is_watched(home: Path, run_id: str) -> bool:
    """Whether somebody waits for what this run tells."""
    with redis.Redis.from_url(local_store(home / ".runyard") or "") as store:
        return bool(store.pubsub_channels(f"*{run_id}*"))
