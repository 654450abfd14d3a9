"""Reading the ledger over HTTP and at the terminal, and the explanation that is made of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from runyard.app.cli import cli
from runyard.app.factory import create_app
from runyard.engine.record import FIELDS
from runyard.engine.run import Phase, Run
from runyard.engine.settings import Settings
from runyard.graphs.registry import Registry, load_project
from tests.support.engine import Engine, engine

Json = dict[str, Any]
PROJECT = """
import asyncio, operator
from pathlib import Path
from typing import Annotated, TypedDict
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, interrupt

class State(TypedDict, total=False):
    do: str
    out: Annotated[list[str], operator.add]

@tool
def look_up(word: str, password: str) -> list[str]:
    '''Find a word.'''
    return [word]

def plan(state):
    return {"out": look_up.invoke({"word": state["do"], "password": "planted"})}

async def act(state):
    match state["do"]:
        case "ask":
            return {"out": [interrupt("shall I?")]}
        case "fail" | "wait":
            raise ConnectionError("refused")
        case "hang":
            (Path(__file__).parent / "hangs").touch()
            await asyncio.sleep(60)
    return {"out": ["acted"]}

def onwards(state):
    return "act"

def made(policy, **options):
    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("act", act, retry_policy=policy, **options)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", onwards, ["act", END])
    return graph.compile()

agent = made(RetryPolicy(max_attempts=2, initial_interval=0, jitter=False))
patient = made(RetryPolicy(max_attempts=2, initial_interval=60, jitter=False))
lean = made(None, metadata={"runyard": {"required": False, "fallback": {"value": {"out": ["instead"]}}}})
"""
GRAPHS = ("agent", "patient", "lean")


@dataclass
class Place:
    engine: Engine
    http: FlaskClient
    folder: Path
    redis_url: str

    def why(self, run: Run) -> Json:
        answer = self.http.get(f"/runs/{run.run_id}/why")
        assert answer.status_code == 200
        told: Json = answer.json
        assert told["phase"] == self.engine.service.get_run(run.run_id).phase
        return told

    def runyard(self, *arguments: str) -> str:
        ran = CliRunner().invoke(cli, arguments, env={"REDIS_URL": self.redis_url}, standalone_mode=False)
        assert ran.exception is None
        return ran.output


@pytest.fixture
async def place(redis_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "graph.py").write_text(PROJECT)
    named = {name: f"./graph.py:{name}" for name in GRAPHS}
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"graphs": named}))
    registry = Registry(load_project(config))
    settings = Settings.from_env({}, redis_url=redis_url, config=str(config))
    async with engine(redis_url, {name: registry.load(name) for name in GRAPHS}) as eng:
        app = create_app(settings, wake=eng.wakes.extend)
        yield Place(eng, app.test_client(), tmp_path, redis_url)


async def test_records_come_in_pages_filtered_or_as_lines(place: Place) -> None:
    run = await place.engine.run("agent", {"do": "it", "out": []})
    path = f"/runs/{run.run_id}/records"
    first = place.http.get(f"{path}?limit=2")
    assert [(r["kind"], r["node"]) for r in first.json] == [("tool", "plan"), ("attempt", "plan")]
    assert tuple(first.json[0]) == FIELDS
    assert first.json[0]["args"] == {"word": "it", "password": "[redacted]"}
    rest = place.http.get(f"{path}?after={first.headers['X-Pagination-Next']}")
    assert [(r["kind"], r["node"]) for r in rest.json] == [("decision", "plan"), ("attempt", "act")]
    assert "X-Pagination-Next" not in rest.headers
    assert [r["decision"] for r in place.http.get(f"{path}?kind=decision").json] == ["act"]
    assert [r["kind"] for r in place.http.get(f"{path}?node=act").json] == ["attempt"]
    for lines in (
        place.http.get(f"{path}?format=jsonl"),
        place.http.get(path, headers={"Accept": "application/x-ndjson"}),
    ):
        assert lines.mimetype == "application/x-ndjson"
        assert [json.loads(line) for line in lines.text.splitlines()] == [*first.json, *rest.json]


@pytest.mark.parametrize(
    ("query", "field"),
    [("kind=nonsense", "kind"), ("after=yesterday", "after"), ("limit=-1", "limit"), ("nodes=a", "nodes")],
)
async def test_a_query_that_means_nothing_is_refused_by_name(place: Place, query: str, field: str) -> None:
    run = place.engine.start("agent", {})
    answer = place.http.get(f"/runs/{run.run_id}/records?{query}")
    assert answer.status_code == 422
    assert field in answer.text


async def test_a_run_that_is_not_there_has_neither_records_nor_reasons(place: Place) -> None:
    for what in ("records", "why"):
        assert place.http.get(f"/runs/0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55/{what}").status_code == 404


async def test_a_failure_is_explained_with_its_attempts_and_what_to_do(place: Place) -> None:
    run = await place.engine.run("agent", {"do": "fail", "out": []})
    told = place.why(run)
    assert told["headline"] == "It failed in node act: ConnectionError: refused"
    assert [line.partition(" after ")[0] for line in told["attempts"]] == [
        "act, attempt 1: failed", "act, attempt 2: failed",
    ]  # fmt: skip
    assert told["attempts"][0].endswith("with ConnectionError: refused → again in 0.0 s")
    assert told["attempts"][1].endswith("→ gave up")
    assert told["decisions"] == ["step 1: plan chose act (by onwards)"]
    assert (told["cost"]["node_attempts"], told["cost"]["tool_calls"], told["cost"]["cost"]) == (3, 1, None)
    commands = [step["command"] for step in told["next"]]
    assert commands[:2] == [
        f"runyard dead-letters replay {run.run_id}", f"runyard dead-letters replay {run.run_id} --skip act",
    ]  # fmt: skip
    place.runyard("dead-letters", "discard", run.run_id, "--reason", "known")
    assert "It was discarded from the dead letters: known" in place.why(run)["story"]


async def test_every_way_a_run_can_stand_is_explained(place: Place) -> None:
    eng = place.engine
    done = await eng.run("agent", {"do": "it", "out": []})
    assert place.why(done)["headline"].startswith("It ran to its end in ")
    lean = await eng.run("lean", {"do": "fail", "out": []})
    told = place.why(lean)
    assert told["headline"].endswith(", but without act.")
    assert (
        "Node act was given up on after attempt 1 (ConnectionError: refused); fallback in its place." in told["story"]
    )
    paused = await eng.run("agent", {"do": "ask", "out": []})
    told = place.why(paused)
    assert told["headline"].endswith("waits for an answer.")
    assert "It asks: shall I?" in told["story"]
    assert told["next"][0]["command"] == f"runyard resume {paused.run_id} --value JSON"
    waiting = eng.start("patient", {"do": "wait", "out": []})
    assert place.why(waiting)["headline"].startswith("It waits for a worker of queue 'default'")
    queued = eng.start("agent", {"do": "it"}, thread_id=waiting.thread_id)
    assert place.why(queued)["headline"].startswith("It waits behind another run of its thread")
    await eng.drive()
    assert place.why(waiting)["headline"].startswith("It waits for the next attempt of node act, due in 60")
    eng.service.cancel_run(eng.service.get_run(waiting.run_id))
    assert place.why(waiting)["headline"].startswith("It was cancelled after ")
    assert place.why(waiting)["next"][0]["command"] == f"runyard run patient --thread {waiting.thread_id}"


async def test_a_running_run_and_one_that_is_cut_off_are_explained(place: Place) -> None:
    eng = place.engine
    run = eng.start("agent", {"do": "hang", "out": []})
    going = asyncio.create_task(eng.drive())
    while not (place.folder / "hangs").exists():  # noqa: ASYNC110 - another thread of the graph's makes it
        await asyncio.sleep(0.01)
    told = place.why(run)
    assert told["headline"].startswith("It is running on worker first; the graph last moved ")
    assert "The last to end was plan in step 1: ok." in told["story"][0]
    eng.service.cancel_run(eng.service.get_run(run.run_id))
    eng.worker.keeper.renew()
    await going
    assert eng.service.get_run(run.run_id).phase is Phase.CANCELLED
    assert place.why(run)["attempts"][0].startswith("act, attempt 1: cut off after ")


async def test_crashes_and_quarantine_are_explained(place: Place) -> None:
    eng = place.engine
    run = eng.start("agent", {"do": "it", "out": []})
    eng.sync_store.client.hset(eng.keys.of_run(run.run_id).run(run.run_id), "crashes", 3)
    await eng.drive()
    told = place.why(run)
    assert told["headline"].startswith("It was quarantined: 3 workers")
    assert told["story"][-1].startswith("It is a dead letter")
    assert told["next"][0]["command"] == f"runyard dead-letters show {run.run_id}"


async def test_the_terminal_says_the_same(place: Place) -> None:
    run = await place.engine.run("agent", {"do": "fail", "out": []})
    lines = place.runyard("records", run.run_id).splitlines()
    assert [line.split()[2:4] for line in lines] == [
        ["tool", "plan"], ["attempt", "plan"], ["decision", "plan"], ["attempt", "act"], ["attempt", "act"],
    ]  # fmt: skip
    assert "ConnectionError: refused" in lines[-1]
    followed = [json.loads(line) for line in place.runyard("records", run.run_id, "--follow", "--json").splitlines()]
    assert followed == place.http.get(f"/runs/{run.run_id}/records").json
    assert "ConnectionError" in place.runyard("records", run.run_id, "--kind", "attempt", "--status", "error")
    said = place.runyard("why", run.run_id)
    for part in (
        "It failed in node act",
        "attempts that did not go well",
        "plan chose act",
        "what to do",
        "--skip act",
    ):
        assert part in said
    assert json.loads(place.runyard("why", run.run_id, "--json")) == place.why(run)
