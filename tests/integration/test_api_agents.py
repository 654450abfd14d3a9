"""Assistants as others name them: agents of the Agent Protocol, tools of MCP, agents of A2A. What needs no worker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.web import Web

ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Iterator[Web]:
    made = Web(redis_url, tmp_path / "project")
    yield made
    made.app.extensions["runyard"].service.store.close()


def rpc(web: Web, path: str, method: Any, params: Any = None, **more: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params, **more}
    return web.call("POST", path, body, headers=ACCEPT)


def id_of(web: Web, graph: str) -> str:
    return str(web.call("POST", "/assistants/search", {"graph_id": graph}).json[0]["assistant_id"])


# --- the Agent Protocol


def test_agents_are_assistants(web: Web) -> None:
    found = web.call("POST", "/agents/search", {"name": "PLAIN", "newer": 1}).json
    agent_id = id_of(web, "plain")
    assert [each["agent_id"] for each in found] == [agent_id]
    assert found[0]["capabilities"] == {"ap.io.streaming": True}
    assert web.call("GET", f"/agents/{agent_id}").json == web.call("GET", "/agents/plain").json == found[0]
    schemas = web.call("GET", "/agents/plain/schemas").json
    assert schemas["agent_id"] == agent_id
    assert "steps" in schemas["input_schema"]["properties"]
    assert web.call("GET", "/agents/nobody").status_code == 404


def test_a_run_may_name_its_agent_and_its_thread(web: Web) -> None:
    thread_id = str(uuid.uuid4())
    run = web.call("POST", "/runs", {"agent_id": "plain", "thread_id": thread_id, "input": {}}).json
    assert (run["thread_id"], run["assistant_id"]) == (thread_id, id_of(web, "plain"))
    path = f"/runs/{run['run_id']}"
    assert web.call("POST", f"{path}/cancel").status_code == 202
    assert web.call("DELETE", path).status_code == 204
    assert web.call("GET", path).status_code == 404


def test_a_thread_in_the_body_of_langgraphs_stateless_run_is_ignored(web: Web) -> None:
    run = web.call("POST", "/runs", {"assistant_id": "plain", "thread_id": "anything"}).json
    assert run["thread_id"] != "anything"


# --- MCP


def test_mcp_agrees_on_a_version_it_knows(web: Web) -> None:
    told = rpc(web, "/mcp", "initialize", {"protocolVersion": "2025-03-26"}).json
    assert told["id"] == 7
    assert told["result"]["protocolVersion"] == "2025-03-26"
    assert told["result"]["capabilities"] == {"tools": {"listChanged": False}}
    assert rpc(web, "/mcp", "initialize", {"protocolVersion": "1999"}).json["result"]["protocolVersion"] > "2025"
    assert rpc(web, "/mcp", "ping").json["result"] == {}


def test_each_assistant_is_a_tool_and_one_that_cannot_be_loaded_is_none(web: Web) -> None:
    web.call("POST", "/assistants", {"graph_id": "plain", "name": "my own!", "description": "Works."})
    web.call("POST", "/assistants", {"graph_id": "plain", "name": "asking"})
    tools = {tool["name"]: tool for tool in rpc(web, "/mcp", "tools/list").json["result"]["tools"]}
    assert set(tools) == {"plain", "asking", "failing", "waiting", "my_own_"}
    assert tools["my_own_"]["description"] == "Works."
    assert tools["plain"]["inputSchema"]["properties"]["steps"]["type"] == "array"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", {"name": "nobody", "arguments": {}}, -32602),
        ("tools/call", {"name": "plain", "arguments": []}, -32602),
        ("tools/call", {"name": "broken", "arguments": {}}, -32603),
        ("initialize", [], -32602),
        ("resources/list", {}, -32601),
    ],
)
def test_what_mcp_cannot_do_is_an_error_with_its_code(web: Web, method: str, params: Any, code: int) -> None:
    answer = rpc(web, "/mcp", method, params)
    assert answer.status_code == 200
    assert answer.json["error"]["code"] == code


@pytest.mark.parametrize("body", [[], {"id": 1, "method": "ping"}, {"jsonrpc": "2.0", "id": [], "method": "ping"}])
def test_what_is_no_message_is_refused(web: Web, body: Any) -> None:
    assert web.call("POST", "/mcp", body, headers=ACCEPT).status_code == 400


def test_mcp_says_nothing_to_notifications_and_knows_no_sessions(web: Web) -> None:
    told = web.call("POST", "/mcp", {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=ACCEPT)
    assert (told.status_code, told.data) == (202, b"")
    assert web.call("GET", "/mcp", headers=ACCEPT).status_code == 405
    assert web.call("DELETE", "/mcp").status_code == 404
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert web.call("POST", "/mcp", ping).status_code == 200
    assert web.call("POST", "/mcp", ping, headers={"Accept": "text/html"}).status_code == 400


# --- A2A


def test_a_card_says_where_the_agent_is(web: Web) -> None:
    agent_id = id_of(web, "plain")
    card = web.call("GET", f"/.well-known/agent-card.json?assistant_id={agent_id}").json
    assert card == web.call("GET", f"/a2a/{agent_id}/.well-known/agent-card.json").json
    assert card["url"] == f"http://localhost/a2a/{agent_id}"
    assert card["capabilities"]["streaming"] is True
    assert web.call("GET", f"/a2a/{uuid.uuid4()}").status_code == 404


TEXT = {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("message/send", {}, -32602),
        ("message/send", {"message": {**TEXT, "messageId": None}}, -32602),
        ("message/send", {"message": {**TEXT, "parts": []}}, -32602),
        ("message/send", {"message": TEXT}, -32602),  # its state has no messages
        ("tasks/get", {"id": "nothing"}, -32001),
        ("tasks/cancel", {"id": f"{uuid.uuid4()}:{uuid.uuid4()}"}, -32001),
        ("tasks/list", {}, -32601),
        (None, {}, -32600),
    ],
)
def test_what_a2a_cannot_do_is_an_error_with_its_code(web: Web, method: Any, params: Any, code: int) -> None:
    answer = rpc(web, f"/a2a/{id_of(web, 'plain')}", method, params)
    assert answer.status_code == 200
    assert answer.json["error"]["code"] == code


def test_a_task_is_a_run_of_its_thread(web: Web) -> None:
    thread_id, path = web.thread(), f"/a2a/{id_of(web, 'plain')}"
    run_id = web.run(thread_id).json["run_id"]
    task = rpc(web, path, "tasks/get", {"id": f"{thread_id}:{run_id}"}).json["result"]
    assert (task["contextId"], task["status"]["state"], task["history"]) == (thread_id, "submitted", [])
    wrong = {"id": f"{thread_id}:{run_id}", "contextId": str(uuid.uuid4())}
    assert rpc(web, path, "tasks/get", wrong).json["error"]["code"] == -32001
    assert rpc(web, path, "tasks/cancel", {"id": task["id"]}).json["result"]["status"]["state"] == "canceled"
    assert rpc(web, path, "tasks/cancel", {"id": task["id"]}).json["error"]["code"] == -32002


def test_nobody_is_answered_json_that_is_none(web: Web) -> None:
    answer = web.call("POST", "/a2a/plain", data="{nope", content_type="application/json")
    assert answer.json["error"]["code"] == -32700
