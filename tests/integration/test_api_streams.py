"""The thread-centric protocol's door: commands and their codes, and what a stream of events refuses."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.app.protocol import QUESTION_AGE_S, Subscription, hold, is_below
from runyard.engine.store.events import Event
from runyard.engine.thread_events import ThreadEvent
from tests.support.web import Web


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Iterator[Web]:
    made = Web(redis_url, tmp_path / "project")
    yield made
    made.app.extensions["runyard"].service.store.close()


def command(web: Web, method: str, thread_id: str = "", **params: Any) -> Any:
    path = f"/threads/{thread_id or uuid.uuid4()}/commands"
    answer = web.call("POST", path, {"id": 7, "method": method, "params": params})
    assert answer.status_code == 200
    assert answer.json["id"] == 7
    return answer.json


def test_a_started_run_makes_its_thread_and_is_recorded(web: Web) -> None:
    thread_id = str(uuid.uuid4())
    answer = command(web, "run.start", thread_id, assistant_id="plain", input={"steps": []}, metadata={"a": 1})
    assert answer["type"] == "success"
    run = web.call("GET", f"/threads/{thread_id}/runs/{answer['result']['run_id']}").json
    assert run["metadata"] == {"a": 1, "graph_id": "plain", "assistant_id": run["assistant_id"]}
    assert web.call("POST", "/threads/search", {"metadata": {"a": 1}}).json[0]["thread_id"] == thread_id
    assert answer["meta"] == {"applied_through_seq": 0}
    assert len(web.wakes) == 1


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("run.start", {"assistant_id": "nobody"}, "invalid_argument"),
        ("run.start", {}, "invalid_argument"),
        ("run.start", {"assistant_id": "plain", "input": 5}, "invalid_argument"),
        ("run.start", {"assistant_id": "plain", "config": []}, "invalid_argument"),
        ("input.respond", {"interrupt_id": "x", "response": 1}, "no_such_run"),
        ("input.respond", {"response": 1}, "invalid_argument"),
        ("agent.getTree", {}, "no_such_run"),
        ("subscription.subscribe", {"channels": ["values"]}, "not_supported"),
        ("subscription.subscribe", {}, "invalid_argument"),
        ("subscription.reconnect", {"subscription_id": "x"}, "not_supported"),
        ("subscription.unsubscribe", {"subscription_id": "x"}, "no_such_subscription"),
        ("subscription.unsubscribe", {}, "invalid_argument"),
        ("state.fork", {}, "unknown_command"),
    ],
)
def test_what_cannot_be_done_is_an_error_with_its_code(web: Web, method: str, params: Any, code: str) -> None:
    answer = command(web, method, **params)
    assert answer["type"] == "error"
    assert answer["error"] == code
    assert answer["message"]


def test_the_tree_is_the_newest_run(web: Web) -> None:
    thread_id = str(uuid.uuid4())
    command(web, "run.start", thread_id, assistant_id="plain", input={"steps": []})
    tree = command(web, "agent.getTree", thread_id)["result"]["tree"]
    assert tree == {"namespace": [], "status": "started", "graph_name": "plain"}


@pytest.mark.parametrize("body", [[], {}, {"id": "a", "method": "x"}, {"id": 1}, {"id": True, "method": "x"}])
def test_what_is_no_command_is_refused_in_the_protocols_words_and_as_all_errors(web: Web, body: Any) -> None:
    answer = web.call("POST", f"/threads/{uuid.uuid4()}/commands", body)
    assert answer.status_code == 400
    assert (answer.json["type"], answer.json["error"]) == ("error", "invalid_argument")
    assert answer.json["id"] == (body.get("id") if isinstance(body, dict) else None)
    assert answer.json["detail"] == answer.json["message"] != ""


@pytest.mark.parametrize("params", [None, [], 3])
def test_parameters_that_are_none_are_missed_by_the_command(web: Web, params: Any) -> None:
    body = {"id": -1, "method": "run.start", "params": params}
    answer = web.call("POST", f"/threads/{uuid.uuid4()}/commands", body)
    assert (answer.status_code, answer.json["id"], answer.json["error"]) == (200, -1, "invalid_argument")


def test_an_answer_to_what_is_not_asked_is_no_such_interrupt(web: Web) -> None:
    thread_id = str(uuid.uuid4())
    run_id = command(web, "run.start", thread_id, assistant_id="plain", input={"steps": []})["result"]["run_id"]
    web.call("POST", f"/threads/{thread_id}/runs/{run_id}/cancel")
    answer = command(web, "input.respond", thread_id, interrupt_id="x", response=1)
    assert answer["error"] == "no_such_interrupt"


@pytest.mark.parametrize(
    "body", [{}, {"channels": []}, {"channels": ["values", "nonsense"]}, {"channels": ["values"], "depth": -1}, [1]]
)
def test_a_stream_of_unknown_channels_is_refused(web: Web, body: Any) -> None:
    answer = web.call("POST", f"/threads/{uuid.uuid4()}/stream/events", body)
    assert answer.status_code == 400
    assert isinstance(answer.json["detail"], str)


def test_a_thread_stream_of_no_thread_or_an_unknown_mode_is_refused(web: Web) -> None:
    assert web.call("GET", f"/threads/{uuid.uuid4()}/stream").status_code == 404
    path = f"/threads/{web.thread()}/stream"
    assert web.call("GET", f"{path}?stream_mode=nonsense").status_code == 422
    assert web.call("GET", path, headers={"Last-Event-ID": "abc"}).status_code == 422


def test_a_namespace_is_below_its_beginnings_with_or_without_ids() -> None:
    assert is_below(["inner:1", "deep:2"], [])
    assert is_below(["inner:1", "deep:2"], ["inner"])
    assert is_below(["inner:1"], ["inner:1"])
    assert not is_below(["inner:1"], ["inner:2"])
    assert not is_below(["inner:1"], ["inner", "deep"])


@pytest.mark.parametrize(
    ("namespaces", "depth", "shown"),
    [
        (None, 0, [True, True, True]),  # there is nothing it could be below
        ([[]], 0, [True, False, False]),
        ([[]], 1, [True, True, False]),
        ([["inner"]], 0, [False, True, False]),
        ([["inner"]], None, [False, True, True]),
    ],
)
def test_depth_counts_from_the_namespaces(namespaces: Any, depth: int | None, shown: list[bool]) -> None:
    wanted = Subscription(channels=frozenset(["values"]), namespaces=namespaces, depth=depth)
    places: list[list[str]] = [[], ["inner:1"], ["inner:1", "deep:2"]]
    assert [wanted.shows("values", place, b"{}") for place in places] == shown


@pytest.mark.parametrize(
    ("channels", "name", "age_s", "held"),
    [
        (["lifecycle", "input"], "v3/input.requested", 0.0, True),
        (["input"], "v3/input.requested|inner:1", 0.0, True),
        (["lifecycle", "input"], "v3/input.requested", 1.0, False),
        (["lifecycle", "input"], "end", 0.0, False),
        (["lifecycle", "input", "values"], "v3/input.requested", 0.0, False),
    ],
)
def test_a_fresh_question_is_held_back_from_whoever_listens_to_nothing_else(
    channels: list[str], name: str, age_s: float, held: bool
) -> None:
    run: Any = None  # nothing of it is looked at
    event = Event(f"{int((time.time() - age_s) * 1000)}-0", name, b"{}", 1)
    left_s = hold(Subscription(channels=frozenset(channels)))(ThreadEvent(run, event))
    assert (0 < left_s <= QUESTION_AGE_S) == held
