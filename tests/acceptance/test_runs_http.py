"""Runs over HTTP, carried out by real processes: in by one door, out by every other."""

from __future__ import annotations

import contextlib
import json
import uuid

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.stack import Stack, parse_events

pytestmark = pytest.mark.timeout(120)


def test_a_run_is_polled_and_joined(server_stack: Stack) -> None:
    path = server_stack.run(server_stack.thread(), "plain", input={"text": "a"})
    assert server_stack.status(path) == "success"
    assert server_stack.http.get(f"{path}/join").json() == {"steps": ["work"], "text": "a"}
    run = server_stack.http.get(path).json()
    assert run["created_at"] <= run["started_at"] <= run["ended_at"]


def test_a_wait_answers_the_values_and_says_where_to_ask_again(server_stack: Stack) -> None:
    thread_id = server_stack.thread()
    answer = server_stack.post(f"/threads/{thread_id}/runs/wait", "plain", input={"text": "a"})
    assert answer.json() == {"steps": ["work"], "text": "a"}
    assert answer.headers["Location"] == f"{answer.headers['Content-Location']}/join"
    assert server_stack.http.get(answer.headers["Location"]).json() == answer.json()
    thread = server_stack.http.get(f"/threads/{thread_id}").json()
    assert (thread["status"], thread["values"], thread["metadata"]["graph_id"]) == ("idle", answer.json(), "plain")


def test_a_failed_run_says_why_at_every_door(server_stack: Stack) -> None:
    thread_id = server_stack.thread()
    told = {"error": "ValueError", "message": "kaboom"}
    answer = server_stack.post(f"/threads/{thread_id}/runs/wait", "failing", input={})
    assert (answer.status_code, answer.json()) == (200, {"__error__": told})
    path = answer.headers["Content-Location"]
    assert server_stack.http.get(path).json()["status"] == "error"
    assert server_stack.http.get(path).json()["error"] == told
    replayed = parse_events(server_stack.http.get(f"{path}/stream", headers={"Last-Event-ID": "-1"}).text)
    assert json.loads(replayed[-1]["data"]) == told
    assert replayed[-1]["event"] == "error"
    assert server_stack.http.get(f"{path}/stream").text == ""
    assert server_stack.http.get(f"/threads/{thread_id}").json()["status"] == "error"


def test_an_interrupted_run_waits_for_its_answer(server_stack: Stack) -> None:
    thread_id = server_stack.thread()
    asked = server_stack.post(f"/threads/{thread_id}/runs/wait", "asking", input={}).json()
    assert asked["__interrupt__"][0]["value"] == {"question": "go on?"}
    thread = server_stack.http.get(f"/threads/{thread_id}").json()
    assert thread["status"] == "interrupted"
    assert next(iter(thread["interrupts"].values()))[0]["value"] == {"question": "go on?"}
    state = server_stack.http.get(f"/threads/{thread_id}/state").json()
    assert state["next"] == ["ask"]
    resumed = server_stack.post(f"/threads/{thread_id}/runs/wait", "asking", command={"resume": "yes", "goto": []})
    assert resumed.json() == {"steps": ["work", "ask"], "answer": "yes"}


def test_a_state_is_edited_and_its_history_told(server_stack: Stack) -> None:
    thread_id = server_stack.thread()
    server_stack.post(f"/threads/{thread_id}/runs/wait", "asking", input={})
    left = server_stack.http.post(
        f"/threads/{thread_id}/state", json={"values": {"text": "b"}, "as_node": "work"}
    ).json()
    state = server_stack.http.get(f"/threads/{thread_id}/state").json()
    assert state["values"]["text"] == "b"
    assert state["checkpoint"]["checkpoint_id"] == left["checkpoint"]["checkpoint_id"] == left["checkpoint_id"]
    history = server_stack.http.post(f"/threads/{thread_id}/history", json={"limit": 5}).json()
    newest = history[0]
    for before in (newest["checkpoint_id"], newest["checkpoint"], {"configurable": newest["checkpoint"]}):
        older = server_stack.http.post(f"/threads/{thread_id}/history", json={"before": before}).json()
        assert older[0]["checkpoint_id"] == history[1]["checkpoint_id"]
    again = server_stack.http.get(f"/threads/{thread_id}/state/{history[1]['checkpoint_id']}").json()
    assert again["checkpoint"] == history[1]["checkpoint"]
    refused = server_stack.http.post(f"/threads/{thread_id}/state", json={"values": {"steps": 5}})
    assert (refused.status_code, refused.json()["detail"].partition(":")[0]) == (400, "values")


def test_a_stream_begins_with_its_run_and_can_be_taken_up_again(server_stack: Stack) -> None:
    body = {"input": {"text": "a"}, "stream_mode": ["values", "updates"], "stream_resumable": True}
    answer = server_stack.post(f"/threads/{server_stack.thread()}/runs/stream", "plain", **body)
    events = parse_events(answer.text)
    assert json.loads(events[0]["data"])["run_id"] in answer.headers["Content-Location"]
    assert [event["event"] for event in events] == ["metadata", "values", "updates", "values"]
    assert len({event["id"] for event in events}) == 4
    where = answer.headers["Location"]
    assert server_stack.http.get(where, headers={"Last-Event-ID": "-1"}).text == answer.text
    rest = parse_events(server_stack.http.get(where, headers={"Last-Event-ID": events[1]["id"]}).text)
    assert rest == events[2:]
    for nothing_but_the_greeting in (events[0]["id"], "0-1"):
        again = server_stack.http.get(where, headers={"Last-Event-ID": nothing_but_the_greeting}).text
        assert parse_events(again) == events[1:]
    only = parse_events(server_stack.http.get(f"{where}?stream_mode=updates", headers={"Last-Event-ID": "-1"}).text)
    assert [event["event"] for event in only] == ["updates"]
    assert server_stack.http.get(where, headers={"Last-Event-ID": ""}).text == ""
    assert server_stack.http.get(where, headers={"Last-Event-ID": "x"}).status_code == 422


def test_events_have_ids_only_when_they_were_asked_for(server_stack: Stack) -> None:
    answer = server_stack.post(f"/threads/{server_stack.thread()}/runs/stream", "plain", input={})
    assert not any("id" in event for event in parse_events(answer.text))


def test_a_stateless_run_leaves_its_result_and_no_thread(server_stack: Stack) -> None:
    answer = server_stack.post("/runs", "plain", input={"text": "a"})
    path = answer.headers["Content-Location"]
    assert path == f"/runs/{answer.json()['run_id']}"
    assert server_stack.status(path) == "success"
    assert server_stack.http.get(f"{path}/join").json() == {"steps": ["work"], "text": "a"}
    waited = server_stack.post("/runs/wait", "plain", input={"text": "b"})
    assert waited.json() == {"steps": ["work"], "text": "b"}
    streamed = parse_events(server_stack.post("/runs/stream", "plain", input={}, stream_mode="updates").text)
    assert [event["event"] for event in streamed] == ["metadata", "updates"]


def test_a_running_run_is_cancelled_and_its_work_kept(server_stack: Stack) -> None:
    thread_id = server_stack.thread()
    path = server_stack.run(thread_id, "waiting", input={"text": "20"})
    eventually(lambda: server_stack.http.get(f"/threads/{thread_id}/state").json()["next"] == ["wait"])
    answer = server_stack.http.post(f"{path}/cancel?wait=1")
    assert (answer.status_code, answer.json()) == (200, {})
    assert server_stack.http.get(path).json()["status"] == "interrupted"
    assert server_stack.http.get(f"/threads/{thread_id}/state").json()["values"]["steps"] == ["work"]
    assert server_stack.http.post(f"{path}/cancel").status_code == 404
    thread = server_stack.http.get(f"/threads/{thread_id}").json()
    assert (thread["status"], thread["error"]["error"]) == ("interrupted", "UserInterrupt")
    server_stack.post(f"/threads/{thread_id}/runs/wait", "plain", input={})
    assert server_stack.http.get(f"/threads/{thread_id}").json()["error"] is None


@pytest.mark.parametrize("graph", ["plain", "waiting"])
def test_a_deleted_run_takes_its_checkpoints_along_over_or_not(server_stack: Stack, graph: str) -> None:
    thread_id = server_stack.thread()
    server_stack.post(f"/threads/{thread_id}/runs/wait", "plain", input={"text": "a"})
    path = server_stack.run(thread_id, graph, input={"text": "20"})
    server_stack.status(path, "success" if graph == "plain" else "running")
    assert server_stack.http.delete(path).status_code == 204
    assert server_stack.http.get(path).status_code == 404
    state = server_stack.http.get(f"/threads/{thread_id}/state").json()
    assert state["values"] == {"steps": ["work"], "text": "a"}
    answer = server_stack.post(f"/threads/{thread_id}/runs/wait", "plain", input={})
    assert answer.json() == {"steps": ["work", "work"], "text": "a"}


def test_a_rolled_back_run_is_gone_when_the_cancel_has_answered(server_stack: Stack) -> None:
    thread_id = server_stack.thread()
    path = server_stack.run(thread_id, "waiting", input={"text": "20"})
    server_stack.status(path, "running")
    assert server_stack.http.post(f"{path}/cancel?wait=1&action=rollback").json() == {}
    assert server_stack.http.get(path).status_code == 404
    assert server_stack.http.post(f"/threads/{thread_id}/history", json={}).json() == []


@pytest.mark.parametrize("door", ["wait", "stream"])
@pytest.mark.parametrize(("wish", "status"), [("cancel", "interrupted"), ("continue", "success")])
def test_a_client_that_goes_takes_its_run_along_only_if_it_said_so(
    server_stack: Stack, door: str, wish: str, status: str
) -> None:
    thread_id = str(uuid.uuid4())
    body = {"assistant_id": "waiting", "input": {"text": "4"}, "on_disconnect": wish, "if_not_exists": "create"}
    with (
        contextlib.suppress(httpx.ReadTimeout),
        httpx.Client(base_url=server_stack.url, timeout=1.0, trust_env=False) as impatient,
    ):
        impatient.post(f"/threads/{thread_id}/runs/{door}", json=body)
    run = server_stack.http.get(f"/threads/{thread_id}/runs").json()[0]
    assert server_stack.status(f"/threads/{thread_id}/runs/{run['run_id']}") == status


def test_a_wait_is_kept_awake_while_it_lasts(server_stack: Stack) -> None:
    asked = {"assistant_id": "waiting", "input": {"text": "5.5"}}
    with server_stack.http.stream("POST", f"/threads/{server_stack.thread()}/runs/wait", json=asked) as answer:
        parts = [part for part in answer.iter_raw() if part]
    assert parts[0] == b"\n"
    assert json.loads(b"".join(parts)) == {"steps": ["work", "wait"], "text": "5.5"}


def test_a_stream_is_kept_awake_while_it_lasts(server_stack: Stack) -> None:
    asked = {"assistant_id": "waiting", "input": {"text": "5.5"}, "stream_mode": "updates"}
    answer = server_stack.http.post(f"/threads/{server_stack.thread()}/runs/stream", json=asked)
    assert ": heartbeat\n\n" in answer.text
    assert [event["event"] for event in parse_events(answer.text)] == ["metadata", "updates", "updates"]
