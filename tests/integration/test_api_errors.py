"""Whatever is wrong with a request: the right status, a sentence, and nothing stored."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from tests.support.web import Web

NOBODY = "abe60667-b4e2-4933-8bb4-cdb362f2b9a9"


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project", max_body_bytes=10_000)


@pytest.fixture
def unchanged(web: Web, redis: redis_py.Redis) -> Iterator[str]:
    """A thread's id; afterwards the store must hold exactly what it held before."""
    thread_id = web.thread()
    before = {key: redis.dump(key) for key in redis.scan_iter()}
    yield thread_id
    assert {key: redis.dump(key) for key in redis.scan_iter()} == before
    assert web.wakes == []


def detail_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert list(answer.json) == ["detail"]
    return str(answer.json["detail"])


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "assistant_id: is missing"),
        ({"assistant_id": "nope"}, 404, "'nope' not found. The graphs of this server: plain, asking"),
        ({"assistant_id": NOBODY}, 404, "not found"),
        ({"assistant_id": "plain", "input": {"text": 5}}, 422, "input.text: must be text, not 5"),
        ({"assistant_id": "plain", "input": [1]}, 422, "keys of the graph's state (answer, steps, text), not [1]"),
        ({"assistant_id": "plain", "stream_mode": "x"}, 422, "stream_mode: must be one of"),
        ({"assistant_id": "plain", "metadata": []}, 422, "metadata: must be a JSON object, not []"),
        ({"assistant_id": "plain", "config": {"configurable": {"__x": 1}}}, 422, "config.configurable"),
        ({"assistant_id": "plain", "context": {"a": 1}, "config": {"configurable": {"a": 2}}}, 400, "context: give"),
        ({"assistant_id": "plain", "webhook": "http://localhost:1/"}, 422, "webhook: localhost is inside this network"),
        ({"assistant_id": "plain", "webhook": "/told"}, 422, "webhook: must be a whole URL"),
        ({"assistant_id": "broken"}, 500, "graph 'broken' (./nowhere.py:graph) is broken"),
        ([], 422, "body: must be a JSON object"),
    ],
)
@pytest.mark.parametrize("path", ["/runs", "/runs/wait", "/runs/stream"])
def test_a_wrong_run_is_refused(web: Web, unchanged: str, path: str, body: Any, status: int, said: str) -> None:
    assert said in detail_of(web.call("POST", f"/threads/{unchanged}{path}", body), status)
    assert said in detail_of(web.call("POST", path, body), status)


@pytest.mark.parametrize(
    ("data", "kind", "status", "said"),
    [
        (b"{bad", "application/json", 422, "line 1 column 2"),
        (b'{"metadata": NaN}', "application/json", 422, "not valid JSON"),
        (b"\xff\xfe", "application/json", 422, "not valid JSON"),
        (b'{"metadata":' + b"[" * 5_000, "application/json", 422, "not valid JSON"),
        (b'{"metadata":{"a":' + b"[" * 300 + b"]" * 300 + b"}}", "application/json", 422, "200 levels"),
        (b"{}", "text/plain", 415, "Content-Type is 'text/plain'"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "send JSON as application/json"),
        (b'{"a":"' + b"x" * 20_000 + b'"}', "application/json", 413, "10000 bytes"),
        (b'{"thread_id": "abc"}', "application/json", 422, 'thread_id: must be a UUID, not "abc"'),
        (b'{"if_exists": "maybe"}', "application/json", 422, "if_exists"),
        (b'{"supersteps": [1]}', "application/json", 422, "supersteps.0: must be a JSON object"),
    ],
)
def test_a_wrong_body_is_refused(web: Web, unchanged: str, data: bytes, kind: str, status: int, said: str) -> None:
    assert said in detail_of(web.call("POST", "/threads", data=data, content_type=kind), status)


def test_fields_that_newer_clients_send_are_ignored(web: Web) -> None:
    for method, path, body in (
        ("POST", "/threads", {}),
        ("POST", "/threads/search", {}),
        ("POST", "/assistants", {"graph_id": "plain"}),
        ("POST", "/assistants/search", {}),
        ("POST", "/store/items/search", {}),
        ("POST", "/store/namespaces", {}),
        ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}}),
    ):
        assert web.call(method, path, {**body, "newer": 1}).status_code < 300, path


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/threads/abc", 422, "thread_id: must be a UUID, not 'abc'"),
        ("GET", f"/threads/{{t}}/runs/{'x' * 500}", 422, "run_id: must be a UUID"),
        ("GET", "/threads/{t}/state/1", 422, "checkpoint_id: must be a UUID"),
        ("GET", "/assistants/plain", 422, "assistant_id: must be a UUID, not 'plain'"),
        ("GET", f"/assistants/{NOBODY}", 404, "not found"),
        ("GET", "/assistants/nope/graph", 404, "'nope' not found"),
        ("GET", f"/threads/{NOBODY}", 404, f"Thread {NOBODY} not found."),
        ("DELETE", f"/threads/{NOBODY}", 404, "not found"),
        ("GET", f"/threads/{NOBODY}/state", 404, "not found"),
        ("POST", f"/threads/{NOBODY}/history", 404, "not found"),
        ("GET", f"/threads/{NOBODY}/runs", 404, "not found"),
        ("GET", f"/threads/{{t}}/runs/{NOBODY}", 404, f"Run {NOBODY} not found."),
        ("POST", f"/threads/{{t}}/runs/{NOBODY}/cancel", 404, "not found"),
        ("GET", f"/threads/{{t}}/runs/{NOBODY}/join", 404, "not found"),
        ("GET", f"/runs/{NOBODY}", 404, "not found"),
        ("GET", "/threads/{t}/runs?limit=0", 422, "limit: must be a whole number from 1 to 1000"),
        ("GET", "/threads/{t}/runs?limit=x", 422, "limit"),
        ("GET", "/threads/{t}/runs?status=done", 422, "status: must be"),
        ("GET", f"/threads/{{t}}/state/{NOBODY}", 404, "has no checkpoint"),
        ("GET", "/nowhere", 404, "There is nothing at /nowhere"),
        ("PUT", "/threads", 405, "PUT is not allowed on /threads; it takes OPTIONS, POST."),
        ("GET", "/assistants/plain/graph?xray=deep", 422, "xray"),
    ],
)
def test_a_wrong_address_is_refused(web: Web, unchanged: str, method: str, path: str, status: int, said: str) -> None:
    assert said in detail_of(web.call(method, path.replace("{t}", unchanged)), status)


def test_a_run_on_a_missing_thread_is_refused_unless_it_may_be_made(web: Web) -> None:
    assert "not found" in detail_of(web.run(NOBODY), 404)
    assert web.run(NOBODY, if_not_exists="create").status_code == 200


def test_a_busy_thread_rejects_when_it_is_asked_to(web: Web) -> None:
    thread_id = web.thread()
    web.run(thread_id)
    assert "in flight" in detail_of(web.run(thread_id, multitask_strategy="reject"), 409)
    assert "in flight" in detail_of(web.call("POST", f"/threads/{thread_id}/state", {"values": {}}), 409)


def test_a_state_cannot_be_edited_before_a_graph_is_known(web: Web, unchanged: str) -> None:
    assert "no associated graph" in detail_of(web.call("POST", f"/threads/{unchanged}/state", {"values": {}}), 400)


def test_a_thread_is_not_made_twice(web: Web) -> None:
    web.thread(thread_id=NOBODY)
    detail_of(web.call("POST", "/threads", {"thread_id": NOBODY}), 409)
    assert web.call("POST", "/threads", {"thread_id": NOBODY, "if_exists": "do_nothing"}).status_code == 200


def test_a_stream_of_an_unknown_run_is_a_stream_with_the_news(web: Web, unchanged: str) -> None:
    answer = web.call("GET", f"/threads/{unchanged}/runs/{NOBODY}/stream")
    assert answer.status_code == 200
    assert answer.get_data().startswith(b"event: error\ndata: {")


@pytest.fixture(scope="module")
def without_store(tmp_path_factory: pytest.TempPathFactory) -> Web:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Web(f"redis://127.0.0.1:{port}", tmp_path_factory.mktemp("away") / "project")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/threads", {}),
        ("POST", "/runs/wait", {"assistant_id": "plain"}),
        ("GET", f"/threads/{NOBODY}/state", None),
        ("GET", "/readyz", None),
    ],
)
def test_without_a_store_it_says_503_and_when_to_come_back(
    without_store: Web, method: str, path: str, body: Any
) -> None:
    answer = without_store.call(method, path, body)
    assert "cannot be reached" in detail_of(answer, 503)
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", ["/ok", "/", "/info", "/healthz", "/version", "/openapi.json", "/docs"])
def test_without_a_store_the_process_still_answers_for_itself(without_store: Web, path: str) -> None:
    assert without_store.call("GET", path).status_code == 200
