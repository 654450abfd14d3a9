"""``runyard crash-test`` on graphs that survive, and on graphs that do not: it must tell them apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runyard.app.exit_codes import ExitCode
from runyard.engine.crash_test import differences

pytestmark = pytest.mark.timeout(240)

#: Every node and effect writes a line, so that the test can count for itself.
GRAPHS = """
import operator, os, uuid
from pathlib import Path
from typing import Annotated, TypedDict
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from runyard.engine.effects import aonce, once

class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    id: str

def note(line):
    with (Path(__file__).parent / "noted").open("a") as file:
        file.write(line + "\\n")
    return line

def build(*nodes):
    graph = StateGraph(State)
    graph.add_sequence(nodes)
    graph.add_edge(START, nodes[0].__name__)
    return graph.compile()

def first(state):
    note("first")
    return {"log": ["first"], "id": uuid.uuid4().hex}

async def mail(state):
    note("mail")
    await aonce("sent", lambda: note("sent"))
    print("what nodes print is not the report")
    return {"log": ["mail"]}

def paper(state):
    once("printed", lambda: note("printed"))
    return {"log": ["paper"]}

def ask(state):
    return {"log": [interrupt("go on?")]}

def fails(state):
    raise ValueError("always")

def hangs(state):
    import time; time.sleep(60)

sound, asking = build(first, mail, paper), build(ask, mail)
failing, hanging = build(first, fails), build(hangs)

def remembers(state, config):
    seen = Path(__file__).with_name("seen-" + config["configurable"]["thread_id"])
    again = seen.exists()
    seen.touch()
    return {"log": ["again" if again else "once"]}
spoilt = build(remembers)

graph = StateGraph(State)
for number in range(4):
    graph.add_node(f"part{number}", lambda state: {"log": ["part"]}, metadata={"runyard": {"queue": "elsewhere"}})
    graph.add_edge(START, f"part{number}")
wide = graph.compile()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    names = ("sound", "asking", "failing", "hanging", "spoilt", "wide")
    (tmp_path / "mine.py").write_text(GRAPHS)
    graphs = {name: f"./mine.py:{name}" for name in names}
    (tmp_path / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return tmp_path


def crash(project: Path, graph: str, *options: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "runyard.app.cli", "crash-test", graph, "--input", '{"log": []}', *options]
    command += ["--project", str(project / "langgraph.json"), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ran.stdout or ran.returncode, ran.stderr
    return ran.returncode, json.loads(ran.stdout or ran.stderr.splitlines()[-1])


def test_a_sound_graph_survives_every_death_and_its_effects_happen_once(project: Path) -> None:
    code, report = crash(project, "sound")
    assert code == ExitCode.OK
    assert report["survived"]
    assert len(report["trials"]) == report["points"] >= 15
    assert {trial["what"] for trial in report["trials"]} == {
        "run claimed", "node starts", "node ended, nothing saved", "superstep saved", "effect begun",
        "effect noted", "outcome saved",
    }  # fmt: skip
    assert report["nodes"] == {"first": 1, "mail": 1, "paper": 1}
    assert any("values.id" in path for path in report["varies"])
    noted = (project / "noted").read_text().splitlines()
    runs = len(report["trials"]) + 3  # two that nothing disturbs, and the one that came to no further point
    assert noted.count("sent") == noted.count("printed") == runs
    assert noted.count("mail") == runs + sum("mail" in trial["nodes_again"] for trial in report["trials"]) > runs


def test_a_death_before_anything_is_saved_repeats_that_node_alone(project: Path) -> None:
    _, report = crash(project, "sound")
    again = {(trial["what"], trial["node"]): trial["nodes_again"] for trial in report["trials"]}
    for node in ("first", "mail", "paper"):
        assert again["node starts", node] == {}
        assert again["node ended, nothing saved", node] == {node: 1}
    assert again["superstep saved", "first"] == again["superstep saved", "mail"] == {}
    assert again["outcome saved", "paper"] == {}, "the last superstep is saved by the script that ends the run"


def test_a_graph_that_asks_is_answered_in_order_whoever_died(project: Path) -> None:
    code, report = crash(project, "asking", "--resume", '"yes"')
    assert (code, report["status"]) == (ExitCode.OK, "success")
    assert "node stopped, nothing saved" in {trial["what"] for trial in report["trials"]}
    assert report["nodes"] == {"ask": 2, "mail": 1}


def test_a_node_whose_repetition_shows_is_found(project: Path) -> None:
    code, report = crash(project, "spoilt")
    assert code == ExitCode.FAILED
    (bad,) = [trial for trial in report["trials"] if not trial["survived"]]
    assert (bad["what"], bad["node"]) == ("node ended, nothing saved", "remembers")
    assert "values.log.0" in bad["differences"]


def test_one_death_with_many_branches_in_hand_is_one_death(project: Path) -> None:
    code, report = crash(project, "wide")
    assert (code, report["status"]) == (ExitCode.OK, "success")
    assert {"superstep spread", "branch claimed", "branch ended"} <= {trial["what"] for trial in report["trials"]}


def test_a_graph_that_fails_fails_the_same_after_every_death(project: Path) -> None:
    code, report = crash(project, "failing")
    assert (code, report["status"]) == (ExitCode.OK, "error")
    assert "failure noted" in {trial["what"] for trial in report["trials"]}


def test_no_more_deaths_than_were_asked_for(project: Path) -> None:
    code, report = crash(project, "sound", "--max-points", "2")
    assert code == ExitCode.OK
    assert len(report["trials"]) == 2 < report["points"]


def test_a_graph_that_never_ends_is_told_after_its_time(project: Path) -> None:
    code, told = crash(project, "hanging", "--timeout", "2")
    assert code == ExitCode.FAILED
    assert told["error"] == "crash_test_no_baseline"
    assert "had not ended after 2 s" in told["message"]


def test_differences_name_the_place() -> None:
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == {"a.1.b"}
    assert differences({"a": [1]}, {"a": [1, 2]}) == {"a"}
    assert differences({"a": 1}, {"b": 1}) == {"a", "b"}
    assert differences({"a": 1}, {"a": True}) == {"a"}
