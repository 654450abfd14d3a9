"""Dead letters over HTTP: found, understood, repaired, exported; and what a run says of itself."""

from __future__ import annotations

import json
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from runyard.app.factory import create_app
from runyard.engine.run import Run
from runyard.engine.settings import Settings
from runyard.graphs.registry import Registry, load_project
from tests.support.engine import Engine, engine

#: Item 2 of a fan-out fails until the file `mended` lies beside the graph. `slow` has an attempt to come.
PROJECT = """
import operator
from pathlib import Path
from typing import Annotated, TypedDict
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send, interrupt

class State(TypedDict, total=False):
    items: list[int]
    out: Annotated[list[int], operator.add]

def work(state):
    here = Path(__file__).parent
    with (here / "executed").open("a") as log:
        log.write(f"{state['i']}\\n")
    if state["i"] == 0:
        interrupt({"question": "Go on with token=abc?"})
    if state["i"] == 2 and not (here / "mended").exists():
        raise ZeroDivisionError("item 2")
    return {"out": [state["i"]]}

def made(policy=None, **options):
    graph = StateGraph(State)
    graph.add_node("plan", lambda state: {})
    graph.add_node("work", work, retry_policy=policy, **options)
    graph.add_node("total", lambda state: {"out": [sum(state["out"])]})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("work", {"i": i}) for i in state["items"]], ["work"])
    graph.add_edge("work", "total")
    graph.add_edge("total", END)
    return graph.compile()

fan = made()
slow = made(RetryPolicy(retry_on=ZeroDivisionError, initial_interval=60, max_interval=60, jitter=False))
lean = made(metadata={"runyard": {"required": False}})
"""
GIVEN = {"items": [1, 2, 3], "out": []}
NOBODY = "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55"
LETTERS = "/dead-letters"


@dataclass
class Place:
    """A web application and an engine on the same store, and the folder of the project both serve."""

    http: FlaskClient
    engine: Engine
    folder: Path

    async def fail(self, graph_id: str = "fan") -> Run:
        run = await self.engine.run(graph_id, GIVEN)
        assert run.status == "error"
        (self.folder / "executed").unlink()
        return run

    def mend(self) -> None:
        (self.folder / "mended").touch()

    def executed(self) -> list[str]:
        log = self.folder / "executed"
        return log.read_text().split() if log.exists() else []

    def out_of(self, run: Run) -> Any:
        return self.http.get(f"/threads/{run.thread_id}/state").json["values"]["out"]  # type: ignore[index]


@pytest.fixture
async def place(redis_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "graph.py").write_text(textwrap.dedent(PROJECT))
    named = {name: f"./graph.py:{name}" for name in ("fan", "slow", "lean")}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": named}))
    registry = Registry(load_project(tmp_path / "langgraph.json"))
    async with engine(redis_url, {name: registry.load(name) for name in named}) as eng:
        config = str(tmp_path / "langgraph.json")
        settings = Settings.from_env({}, redis_url=redis_url, queue="default", config=config)
        app = create_app(settings, wake=eng.wakes.extend)
        yield Place(app.test_client(), eng, tmp_path)


def lines(answer: Any) -> list[Any]:
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_dead_letters_are_listed_newest_first_and_in_pages(place: Place) -> None:
    failed = [await place.fail() for _ in range(3)]
    page = place.http.get(f"{LETTERS}?limit=2")
    assert [letter["run_id"] for letter in page.json] == [failed[2].run_id, failed[1].run_id]
    assert (page.headers["X-Pagination-Total"], page.headers["X-Pagination-Next"]) == ("3", "2")
    last = place.http.get(f"{LETTERS}?limit=2&offset=2")
    assert [letter["run_id"] for letter in last.json] == [failed[0].run_id]
    assert "X-Pagination-Next" not in last.headers
    assert last.json[0] | {"fingerprint": "", "failed_at": "", "graph_fingerprint": ""} == {
        "run_id": failed[0].run_id, "thread_id": failed[0].thread_id, "graph_id": "fan", "status": "error",
        "phase": "failed",
        "node": "work", "error": "ZeroDivisionError", "message": "item 2", "fingerprint": "", "failed_at": "",
        "graph_fingerprint": "", "replays": 0,
    }  # fmt: skip


async def test_dead_letters_are_filtered(place: Place) -> None:
    run = await place.fail()
    letter = place.http.get(LETTERS).json[0]
    for query, count in [
        ("graph_id=fan", 1), ("graph_id=lean", 0), ("node=work", 1), ("node=plan", 0), ("younger_than=3600", 1),
        ("older_than=3600", 0), (f"fingerprint={letter['fingerprint']}", 1), ("fingerprint=0", 0),
        (f"graph_fingerprint={run.fingerprint}&node=work", 1), ("graph_fingerprint=0", 0),
    ]:  # fmt: skip
        assert len(place.http.get(f"{LETTERS}?{query}").json) == count, query


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("older_than=soon", "older_than: must be a number of seconds from 0 to "),
        ("younger_than=-1", "younger_than: must be a number of seconds from 0 to "),
        ("limit=0", "limit: must be a whole number from 1 to 1000"),
        ("grahp_id=fan", "grahp_id: is not a field of this request"),
    ],
)
async def test_a_filter_that_is_wrong_is_refused_by_name(place: Place, query: str, detail: str) -> None:
    for path in (LETTERS, f"{LETTERS}/export"):
        if not (path.endswith("export") and "limit" in query):
            answer = place.http.get(f"{path}?{query}")
            assert answer.status_code == 422
            assert detail in answer.json["detail"]


async def test_a_dead_letter_tells_all_that_is_known(place: Place) -> None:
    run = await place.fail()
    letter = place.http.get(f"{LETTERS}/{run.run_id}").json
    assert (letter["node"], letter["request"]["input"], letter["checkpoint"]["step"]) == ("work", GIVEN, 1)
    assert letter["failed_at"].endswith("+00:00")
    assert "ZeroDivisionError: item 2" in letter["attempts"][0]["traceback"]
    assert letter["values"] == {"items": [1, 2, 3], "out": []}
    assert sorted(sibling["value"] for sibling in letter["siblings"]) == [[1], [3]]


async def test_what_is_no_dead_letter_is_told_apart_from_what_is_not_there(place: Place) -> None:
    place.mend()
    good = await place.engine.run("fan", GIVEN)
    for method, path, body in [("get", "", None), ("post", "/replay", {}), ("post", "/discard", {"reason": "x"})]:
        call = getattr(place.http, method)
        none = call(f"{LETTERS}/{good.run_id}{path}", json=body)
        assert none.status_code == 409
        assert none.json["detail"] == f"Run {good.run_id} is not a dead letter; it is succeeded."
        assert call(f"{LETTERS}/{NOBODY}{path}", json=body).status_code == 404
        assert call(f"{LETTERS}/one{path}", json=body).json["detail"] == "run_id: must be a UUID, not 'one'"


async def test_a_replay_answers_the_run_and_runs_only_what_failed(place: Place) -> None:
    run = await place.fail()
    place.mend()
    answer = place.http.post(f"{LETTERS}/{run.run_id}/replay")
    assert (answer.status_code, answer.json["run_id"], answer.json["replays"]) == (200, run.run_id, 1)
    assert answer.json["phase"] == "waiting"
    await place.engine.drive()
    assert place.executed() == ["2"]
    assert place.out_of(run) == [1, 2, 3, 6]
    assert place.http.post(f"{LETTERS}/{run.run_id}/replay").status_code == 409


@pytest.mark.parametrize(
    ("repair", "out", "executed"),
    [
        ({"output": {"work": {"out": [20]}}}, [1, 20, 3, 24], []),
        ({"skip": ["work"]}, [1, 3, 4], []),
        ({"output": {"work": {"out": [5]}}, "goto": {"work": "total"}}, [1, 5, 3, 9], []),
        ({"values": {"items": [7]}, "as_node": "plan"}, None, ["7"]),
    ],
)
async def test_a_failed_node_is_stood_in_for_or_its_state_edited(
    place: Place, repair: Any, out: Any, executed: list[str]
) -> None:
    run = await place.fail()
    answer = place.http.post(f"{LETTERS}/{run.run_id}/replay", json=repair)
    assert answer.status_code == 200, answer.json
    await place.engine.drive()
    assert place.engine.service.get_run(run.run_id).status == "success"
    assert place.executed() == executed
    assert out is None or place.out_of(run) == out


@pytest.mark.parametrize(
    ("repair", "detail"),
    [
        ({"skip": ["total"]}, "Node 'total' is not waiting to run; these are: work."),
        ({"skip": "work"}, 'skip: must be a list of texts, not "work"'),
        ({"goto": {"work": "nowhere"}}, "goto: there is no node 'nowhere' in graph 'fan'."),
        ({"goto": {"work": 1}}, "goto: must be a JSON object {failed node: node to go on with}"),
        ({"skip": ["work"], "output": {"work": {}}}, "skip: 'work' is to be skipped and stood in for"),
        ({"as_node": "plan"}, "as_node: says who wrote the values, so it needs values"),
        ({"values": {"items": [1]}, "as_node": "nobody"}, "nobody"),
        ({"values": {"out": 1}, "as_node": "plan"}, "values: the graph does not take them: TypeError"),
        ({"value": {}}, "value: is not a field of this request"),
    ],
)
async def test_a_repair_that_cannot_be_made_is_refused_and_the_letter_stays(
    place: Place, repair: Any, detail: str
) -> None:
    run = await place.fail()
    answer = place.http.post(f"{LETTERS}/{run.run_id}/replay", json=repair)
    assert answer.status_code == 422
    assert detail in answer.json["detail"]
    assert len(place.http.get(LETTERS).json) == 1


async def test_a_replay_is_refused_while_another_run_has_the_thread(place: Place) -> None:
    run = await place.fail()
    place.engine.start("fan", GIVEN, thread_id=run.thread_id)
    for repair in ({}, {"values": {"items": []}, "as_node": "plan"}):
        answer = place.http.post(f"{LETTERS}/{run.run_id}/replay", json=repair)
        assert answer.status_code == 409
    assert place.http.get(f"{LETTERS}/{run.run_id}").status_code == 200


async def test_a_thread_that_has_gone_on_is_not_taken_back_by_a_replay(place: Place) -> None:
    run = await place.fail()
    later = await place.engine.run("fan", {"items": [4], "out": []}, thread_id=run.thread_id)
    answer = place.http.post(f"{LETTERS}/{run.run_id}/replay")
    assert answer.status_code == 409
    assert f"has gone on with run {later.run_id}" in answer.json["detail"]
    place.mend()
    edited = {"values": {"items": [5]}, "as_node": "plan"}
    assert place.http.post(f"{LETTERS}/{run.run_id}/replay", json=edited).status_code == 200
    await place.engine.drive()
    assert place.executed()[-1] == "5"


async def test_bulk_replay_tells_each_run_as_it_goes_and_at_last_the_count(place: Place) -> None:
    failed = [await place.fail() for _ in range(2)]
    busy = await place.fail()
    place.engine.start("fan", GIVEN, thread_id=busy.thread_id)
    place.mend()
    answer = place.http.post(f"{LETTERS}/replay", json={"graph_id": "fan", "per_second": 1000})
    assert answer.mimetype == "application/x-ndjson"
    *told, last = lines(answer)
    assert told[:2] == [{"run_id": run.run_id, "replayed": True} for run in failed]
    assert told[2]["replayed"] is False
    assert "Another run has the thread" in told[2]["detail"]
    assert last == {"done": True, "replayed": 2, "refused": 1}
    await place.engine.drive()
    assert place.engine.service.get_run(failed[0].run_id).status == "success"


async def test_bulk_replay_can_repair_and_takes_no_more_than_asked(place: Place) -> None:
    failed = [await place.fail() for _ in range(2)]
    body = {"node": "work", "skip": ["work"], "limit": 1, "per_second": 1000}
    assert lines(place.http.post(f"{LETTERS}/replay", json=body))[-1] == {"done": True, "replayed": 1, "refused": 0}
    await place.engine.drive()
    assert place.out_of(failed[0]) == [1, 3, 4]
    assert [letter["run_id"] for letter in place.http.get(LETTERS).json] == [failed[1].run_id]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "body: give at least one of graph_id, node, fingerprint, graph_fingerprint, older_than, younger_than, or"),
        ({"all": True, "per_second": 0}, "per_second: must be a number from 0.1 to 1000, not 0"),
        ({"all": True, "skip": ["a"], "goto": {"a": "b"}}, "skip: 'a' is to be skipped and stood in for"),
    ],
)
async def test_bulk_replay_without_a_filter_must_be_meant(place: Place, body: Any, detail: str) -> None:
    answer = place.http.post(f"{LETTERS}/replay", json=body)
    assert (answer.status_code, answer.json["detail"][: len(detail)]) == (422, detail)


async def test_a_discarded_letter_is_gone_and_its_run_says_why(place: Place) -> None:
    run = await place.fail()
    assert place.http.post(f"{LETTERS}/{run.run_id}/discard", json={}).status_code == 422
    blank = place.http.post(f"{LETTERS}/{run.run_id}/discard", json={"reason": " "})
    assert blank.json["detail"] == 'reason: must be text of 1 to 1000 characters, not " "'
    assert place.http.post(f"{LETTERS}/{run.run_id}/discard", json={"reason": "known bug"}).status_code == 204
    assert place.http.get(LETTERS).json == []
    again = place.http.post(f"{LETTERS}/{run.run_id}/replay")
    assert again.json["detail"] == f"Run {run.run_id} is not a dead letter; it was discarded (known bug)."
    assert place.http.get(f"/runs/{run.run_id}").json["reason"] == "failed for good; discarded: known bug"


async def test_an_export_holds_every_letter_that_fits_as_a_line(place: Place) -> None:
    failed = [await place.fail() for _ in range(2)]
    answer = place.http.get(f"{LETTERS}/export?node=work")
    assert answer.mimetype == "application/x-ndjson"
    exported = lines(answer)
    assert [letter["run_id"] for letter in exported] == [failed[1].run_id, failed[0].run_id]
    assert exported[0] == place.http.get(f"{LETTERS}/{failed[1].run_id}").json
    assert place.http.get(f"{LETTERS}/export?node=plan").data == b""


async def test_a_failed_run_shows_what_its_nodes_have_produced(place: Place) -> None:
    run = await place.fail()
    partial = place.http.get(f"/runs/{run.run_id}/partial").json
    assert [(part["node"], part["status"]) for part in partial["parts"]] == [
        ("plan", "done"), ("work", "done"), ("work", "failed"), ("work", "done"),
    ]  # fmt: skip
    assert partial["parts"][1]["result"] == {"out": [1]}
    assert (partial["status"], partial["reason"]) == ("error", "failed for good; a dead letter")
    assert list(partial["attempts"].values()) == [1]
    assert place.http.get(f"/runs/{NOBODY}/partial").status_code == 404


async def test_a_run_that_went_on_without_a_node_says_so(place: Place) -> None:
    run = await place.engine.run("lean", GIVEN)
    seen = place.http.get(f"/runs/{run.run_id}").json
    assert (seen["status"], seen["reason"]) == ("success", "the graph ran to its end without work")
    assert [(part["node"], part["message"], part["instead"]) for part in seen["degraded"]] == [
        ("work", "item 2", "nothing")
    ]
    assert place.http.get(f"/runs/{run.run_id}/partial").json["degraded"] == seen["degraded"]


async def test_a_run_that_waits_says_why_and_since_when(place: Place) -> None:
    retried = place.engine.start("slow", GIVEN)
    queued = place.engine.start("slow", GIVEN, thread_id=retried.thread_id)
    assert "waits for a worker of queue 'default' since 20" in place.http.get(f"/runs/{retried.run_id}").json["reason"]
    assert "waits behind another run" in place.http.get(f"/runs/{queued.run_id}").json["reason"]
    await place.engine.drive()
    seen = place.http.get(f"/runs/{retried.run_id}").json
    assert (seen["phase"], seen["status"]) == ("due", "running")
    assert seen["reason"] == f"waits for the next attempt of a node at {seen['due_at']}, since {seen['updated_at']}"
    assert list(seen["attempts"].values()) == [1]


async def test_a_run_that_waits_for_a_person_says_what_it_asks_and_since_when(place: Place) -> None:
    run = await place.engine.run("fan", {"items": [0], "out": []})
    told = place.http.get(f"/runs/{run.run_id}").json
    asks = "waits for an answer to 'Go on with token=[redacted]' since "
    assert told["reason"] == f"{asks}{told['ended_at']}; a new run on its thread goes on"
    there = place.http.get(f"/threads/{run.thread_id}/runs/{run.run_id}").json
    assert there["reason"] == told["reason"]


async def test_a_run_may_be_given_a_time_limit(place: Place) -> None:
    body = {"assistant_id": "fan", "input": GIVEN, "timeout_s": 7.5, "if_not_exists": "create"}
    run = place.http.post(f"/threads/{NOBODY}/runs", json=body).json
    assert run["kwargs"]["timeout_s"] == 7.5
    await place.engine.drive()
    assert place.http.get(f"/runs/{run['run_id']}").json["deadline_at"] is not None
    for wrong in (0, -1, True, "5"):
        answer = place.http.post("/runs", json={"assistant_id": "fan", "timeout_s": wrong})
        assert answer.status_code == 422
        assert answer.json["detail"].startswith("timeout_s: must be a number of seconds above 0 and up to ")


async def test_the_description_of_the_api_knows_all_of_it(place: Place) -> None:
    paths = place.http.get("/openapi.json").json["paths"]
    assert {path for path in paths if "dead-letters" in path} == {
        LETTERS, f"{LETTERS}/export", f"{LETTERS}/replay", f"{LETTERS}/{{run_id}}",
        f"{LETTERS}/{{run_id}}/replay", f"{LETTERS}/{{run_id}}/discard",
    }  # fmt: skip
    assert "/runs/{run_id}/partial" in paths
    assert place.http.get("/docs").status_code == 200
