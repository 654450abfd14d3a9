"""Threads, runs and assistants over HTTP, in the shapes of LangGraph's API."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.web import Web

PLAIN_ID = str(uuid.uuid5(uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), "plain"))


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project")


# --- runs


def test_a_run_is_recorded_answered_and_announced(web: Web) -> None:
    thread_id = web.thread()
    answer = web.run(thread_id, input={"text": "a"}, metadata={"m": 1}, stream_resumable=True)
    run = answer.json
    assert answer.headers["Content-Location"] == f"/threads/{thread_id}/runs/{run['run_id']}"
    graph = {"graph_id": "plain", "assistant_id": PLAIN_ID}
    assert (run["status"], run["assistant_id"], run["metadata"]) == ("pending", PLAIN_ID, {"m": 1, **graph})
    assert run["multitask_strategy"] == "enqueue"
    assert (run["kwargs"]["input"], run["kwargs"]["resumable"]) == ({"text": "a"}, True)
    ids = {"run_id": run["run_id"], "thread_id": thread_id, **graph}
    assert (run["kwargs"]["context"], run["kwargs"]["config"]) == ({}, {"configurable": ids})
    assert datetime.fromisoformat(run["created_at"]).utcoffset() is not None
    assert [wake.run_id for wake in web.wakes] == [run["run_id"]]
    assert web.call("GET", answer.headers["Content-Location"]).json == run
    assert web.call("GET", f"/runs/{run['run_id']}").json == run
    assert web.call("GET", f"/threads/{thread_id}").json["status"] == "busy"


def test_an_assistant_goes_by_its_graphs_name_or_its_id_in_any_case(web: Web) -> None:
    for name in ("plain", PLAIN_ID, PLAIN_ID.upper()):
        assert web.run(web.thread(), assistant_id=name).json["assistant_id"] == PLAIN_ID


def test_upper_case_ids_are_the_same_ids(web: Web) -> None:
    thread_id = web.thread(thread_id=str(uuid.uuid4()).upper())
    assert thread_id == thread_id.lower()
    run_id = web.run(thread_id.upper()).json["run_id"]
    assert web.call("GET", f"/threads/{thread_id}/runs/{run_id.upper()}").json["thread_id"] == thread_id


def test_runs_are_listed_newest_first_in_pages_and_by_status(web: Web) -> None:
    thread_id = web.thread()
    made = [web.run(thread_id).json["run_id"] for _ in range(3)]
    listed = web.call("GET", f"/threads/{thread_id}/runs?select=run_id&select=status").json
    assert listed == [{"run_id": run_id, "status": "pending"} for run_id in reversed(made)]
    second = web.call("GET", f"/threads/{thread_id}/runs?limit=1&offset=1").json
    assert [run["run_id"] for run in second] == [made[1]]
    assert web.call("GET", f"/threads/{thread_id}/runs?status=success").json == []


def test_a_run_of_another_thread_is_not_found(web: Web) -> None:
    run_id = web.run(web.thread()).json["run_id"]
    assert web.call("GET", f"/threads/{web.thread()}/runs/{run_id}").status_code == 404


def test_a_waiting_run_can_be_cancelled_once(web: Web) -> None:
    thread_id = web.thread()
    path = f"/threads/{thread_id}/runs/{web.run(thread_id).json['run_id']}"
    answer = web.call("POST", f"{path}/cancel")
    assert (answer.status_code, answer.get_data()) == (202, b"")
    assert web.call("GET", path).json["status"] == "interrupted"
    assert web.call("POST", f"{path}/cancel").status_code == 404


def test_a_cancel_that_waits_answers_an_empty_object(web: Web) -> None:
    thread_id = web.thread()
    answer = web.call("POST", f"/threads/{thread_id}/runs/{web.run(thread_id).json['run_id']}/cancel?wait=1")
    assert (answer.status_code, answer.json) == (200, {})


def test_a_rolled_back_run_is_gone(web: Web) -> None:
    thread_id = web.thread()
    path = f"/threads/{thread_id}/runs/{web.run(thread_id).json['run_id']}"
    assert web.call("POST", f"{path}/cancel?wait=1&action=rollback").json == {}
    assert web.call("GET", path).status_code == 404


def test_a_deleted_run_is_gone_and_the_next_one_is_admitted(web: Web) -> None:
    thread_id = web.thread()
    first, second = (web.run(thread_id).json["run_id"] for _ in range(2))
    answer = web.call("DELETE", f"/threads/{thread_id}/runs/{first}")
    assert (answer.status_code, answer.get_data()) == (204, b"")
    assert [wake.run_id for wake in web.wakes] == [first, second]


def test_a_stateless_run_has_a_thread_nobody_sees(web: Web) -> None:
    answer = web.call("POST", "/runs", {"assistant_id": "plain", "if_not_exists": "create"})
    run = answer.json
    assert answer.headers["Content-Location"] == f"/runs/{run['run_id']}"
    assert run["kwargs"]["temporary"] is True
    assert web.call("POST", "/threads/search", {}).json == []


def test_a_stateless_run_that_keeps_its_thread_has_one_like_any_other(web: Web) -> None:
    run = web.call("POST", "/runs", {"assistant_id": "plain", "on_completion": "keep"}).json
    assert [thread["thread_id"] for thread in web.call("POST", "/threads/search", {}).json] == [run["thread_id"]]


# --- threads


def test_a_thread_has_the_shape_clients_expect(web: Web) -> None:
    thread = web.call("POST", "/threads", {"metadata": {"u": 1}}).json
    assert thread["status"] == "idle"
    assert thread["metadata"] == {"u": 1}
    assert (thread["values"], thread["interrupts"], thread["error"]) == (None, {}, None)
    assert web.call("GET", f"/threads/{thread['thread_id']}").json == thread


def test_a_body_may_be_left_out_where_everything_has_a_default(web: Web) -> None:
    for path in ("/threads", "/threads/search", "/threads/count", "/assistants/search", "/assistants/count"):
        assert web.client.post(path).status_code == 200


def test_labels_are_merged_and_a_minimal_answer_is_empty(web: Web) -> None:
    thread_id = web.thread(metadata={"a": 1, "b": 1})
    assert web.call("PATCH", f"/threads/{thread_id}", {"metadata": {"b": 2}}).json["metadata"] == {"a": 1, "b": 2}
    quiet = web.call("PATCH", f"/threads/{thread_id}", {"metadata": {"c": 3}}, headers={"Prefer": "return=minimal"})
    assert (quiet.status_code, quiet.get_data()) == (204, b"")
    assert web.call("GET", f"/threads/{thread_id}").json["metadata"] == {"a": 1, "b": 2, "c": 3}


def test_a_deleted_thread_is_gone(web: Web) -> None:
    thread_id = web.thread()
    assert web.call("DELETE", f"/threads/{thread_id}").status_code == 204
    assert web.call("GET", f"/threads/{thread_id}").status_code == 404


def test_threads_are_found_in_pages_that_say_where_to_go_on(web: Web) -> None:
    made = [web.thread(metadata={"k": "v", "n": n}) for n in range(3)]
    web.thread()
    asked = {"metadata": {"k": "v"}, "limit": 2, "sort_by": "created_at", "sort_order": "asc", "select": ["thread_id"]}
    first = web.call("POST", "/threads/search", asked)
    assert (first.headers["X-Pagination-Total"], first.headers["X-Pagination-Next"]) == ("3", "2")
    second = web.call("POST", "/threads/search", {**asked, "offset": 2})
    assert "X-Pagination-Next" not in second.headers
    assert {thread["thread_id"] for thread in [*first.json, *second.json]} == set(made)
    assert web.call("POST", "/threads/count", {"metadata": {"k": "v"}}).json == 3


def test_a_thread_without_a_run_has_an_empty_state_and_no_history(web: Web) -> None:
    thread_id = web.thread()
    state = web.call("GET", f"/threads/{thread_id}/state").json
    assert (state["values"], state["next"], state["tasks"], state["checkpoint"]) == ({}, [], [], None)
    assert web.call("POST", f"/threads/{thread_id}/state/checkpoint", {"checkpoint": {}}).json == state
    assert web.call("POST", f"/threads/{thread_id}/history").json == []
    assert web.call("GET", f"/threads/{thread_id}/history?limit=5").json == []


# --- assistants


def test_every_graph_has_an_assistant_broken_or_not(web: Web) -> None:
    found = web.call("POST", "/assistants/search", {"limit": 50}).json
    assert {each["graph_id"] for each in found} == {"plain", "asking", "failing", "waiting", "broken"}
    assert all(each["metadata"] == {"created_by": "system"} and each["version"] == 1 for each in found)
    assert web.call("POST", "/assistants/count", {"name": "AIL"}).json == 1


def test_an_assistant_is_the_same_in_every_process(web: Web, redis_url: str, tmp_path: Path) -> None:
    first = web.call("GET", f"/assistants/{PLAIN_ID}").json
    other = Web(redis_url, tmp_path / "project").call("GET", f"/assistants/{PLAIN_ID}").json
    assert first["assistant_id"] == PLAIN_ID
    assert {**first, "created_at": 0, "updated_at": 0} == {**other, "created_at": 0, "updated_at": 0}


def test_a_graph_can_be_drawn_by_name_and_by_id(web: Web) -> None:
    drawn = web.call("GET", "/assistants/asking/graph").json
    assert [node["id"] for node in drawn["nodes"]] == ["__start__", "work", "ask", "__end__"]
    assert {"source": "work", "target": "ask"} in drawn["edges"]
    asking = web.call("POST", "/assistants/search", {"graph_id": "asking"}).json[0]["assistant_id"]
    assert web.call("GET", f"/assistants/{asking}/graph?xray=1").json == drawn


def test_a_graphs_schemas_describe_its_keys(web: Web) -> None:
    told = web.call("GET", f"/assistants/{PLAIN_ID}/schemas").json
    assert told["graph_id"] == "plain"
    assert set(told["input_schema"]["properties"]) == {"steps", "text", "answer"}
    assert told["state_schema"]["properties"]["steps"]["items"] == {"type": "string"}
    assert web.call("GET", f"/assistants/{PLAIN_ID}/subgraphs").json == {}


# --- around the resources


def test_a_request_keeps_the_name_its_client_gave_it(web: Web) -> None:
    assert web.call("GET", "/ok", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    made = web.call("GET", "/nowhere", headers={"X-Request-Id": "two words"}).headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_a_browser_may_ask_and_read(web: Web) -> None:
    asked = {
        "Origin": "https://a.dev",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-a",
    }
    preflight = web.call("OPTIONS", "/threads/search", headers=asked)
    assert preflight.headers["Access-Control-Allow-Headers"] == "x-a"
    refused = web.call("GET", "/threads/abc", headers={"Origin": "https://a.dev"})
    assert "content-location" in refused.headers["Access-Control-Expose-Headers"]


def test_the_project_file_can_close_it_to_other_origins(redis_url: str, tmp_path: Path) -> None:
    closed = Web(redis_url, tmp_path / "project", {"http": {"cors": {"allow_origins": ["https://a.dev"]}}})
    answer = closed.call("GET", "/ok", headers={"Origin": "https://b.dev"})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_every_route_is_in_the_openapi_document(web: Web) -> None:
    document = web.call("GET", "/openapi.json").json
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in web.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint not in ("openapi", "docs")
    }
    described = {
        (path, method) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert described == routes


def test_the_page_of_the_api_needs_no_network_and_no_script(web: Web) -> None:
    answer = web.call("GET", "/docs")
    page = answer.get_data(as_text=True)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<script|https?://", page)
    assert "/threads/{thread_id}/runs/wait" in page


def test_not_ready_without_a_worker(web: Web) -> None:
    answer = web.call("GET", "/readyz")
    assert (answer.status_code, answer.json) == (503, {"detail": "No worker serves the queue 'default'."})


def test_info_says_what_this_server_can_do(web: Web) -> None:
    info = web.call("GET", "/info").json
    assert info["flags"]["assistants"] is True
    assert isinstance(info["version"], str)
