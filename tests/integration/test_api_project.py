"""What langgraph.json says about how the project is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.graphs.errors import GraphConfigError
from tests.support.web import Web

Serve = Callable[..., Web]


@pytest.fixture
def serve(redis_url: str, tmp_path: Path) -> Iterator[Serve]:
    made: list[Web] = []

    def start(**project: Any) -> Web:
        made.append(Web(redis_url, tmp_path / f"project{len(made)}", project))
        return made[-1]

    yield start
    for web in made:
        web.app.extensions["runyard"].service.store.close()


def test_everything_is_under_the_prefix_and_clients_are_led_back_there(serve: Serve) -> None:
    web = serve(http={"mount_prefix": "/agents/v1"})
    thread_id = web.call("POST", "/agents/v1/threads", {}).json["thread_id"]
    assert web.call("GET", f"/threads/{thread_id}").status_code == 404
    assert web.call("GET", "/agents/v1x/ok").status_code == 404
    assert web.call("GET", "/ok").status_code == web.call("GET", "/agents/v1/ok").status_code == 200
    run = web.call("POST", f"/agents/v1/threads/{thread_id}/runs", {"assistant_id": "plain"})
    here = f"/threads/{thread_id}/runs/{run.json['run_id']}"
    assert run.headers["Content-Location"] == here
    web.call("POST", f"/agents/v1{here}/cancel")
    joined = web.call("GET", f"/agents/v1{here}/stream")
    assert joined.headers["Location"] == f"/agents/v1{here}/stream"


def test_parts_of_the_api_are_left_out(serve: Serve) -> None:
    web = serve(http={"disable_store": True, "disable_assistants": True, "disable_runs": False, "disable_mcp": True})
    assert web.call("POST", "/assistants/search", {}).status_code == 404
    assert web.call("POST", "/store/items/search", {}).status_code == 404
    assert web.run(web.thread()).status_code == 200
    assert not [path for path in web.call("GET", "/openapi.json").json["paths"] if path.startswith("/store")]


def test_what_the_server_tells_about_itself_can_be_hidden(serve: Serve) -> None:
    open_, closed = serve(http={"disable_meta": False}), serve(http={"disable_meta": True})
    for path in ("/info", "/version", "/metrics", "/docs", "/openapi.json"):
        assert (open_.call("GET", path).status_code, closed.call("GET", path).status_code) == (200, 404), path
    assert closed.call("GET", "/ok?check_db=1").json == closed.call("GET", "/healthz").json == {"ok": True}
    assert closed.run(closed.thread()).status_code == 200


def test_headers_that_the_project_names_reach_the_run_but_never_credentials(serve: Serve) -> None:
    headers = {"X-User-Id": "ada", "X-Secret": "s", "X-Api-Key": "k", "Authorization": "Basic abc"}

    def found(web: Web) -> Any:
        body = {"assistant_id": "plain", "config": {"configurable": {"a": 1}}}
        made = web.call("POST", f"/threads/{web.thread()}/runs", body, headers=headers)
        known = made.json["kwargs"]["config"]["configurable"]
        return {name: value for name, value in known.items() if not name.endswith("_id") or name.startswith("x-")}

    assert found(serve()) == {"a": 1}
    named = serve(http={"configurable_headers": {"includes": ["x-*"], "excludes": ["x-secret"]}})
    assert found(named) == {"a": 1, "x-user-id": "ada"}
    everything = serve(http={"configurable_headers": {"includes": ["authorization", "X-Api-Key", "*secret"]}})
    assert found(everything) == {"a": 1, "x-secret": "s"}
    assert "authorization, x-api-key" in everything.app.extensions["runyard"].options.warnings[0]


def test_threads_get_the_projects_time_to_live_unless_they_name_their_own(serve: Serve) -> None:
    web = serve(checkpointer={"ttl": {"default_ttl": 90, "strategy": "keep_latest"}})

    def ttl(thread_id: str) -> Any:
        told = web.call("GET", f"/threads/{thread_id}?include=ttl").json["ttl"]
        return told and (told["ttl"], told["strategy"])

    assert ttl(web.thread()) == (90, "keep_latest")
    mine = web.thread(ttl=5)
    assert ttl(mine) == (5, "delete")
    web.run(mine, if_not_exists="create")
    assert ttl(mine) == (5, "delete")
    web.thread(thread_id=mine, if_exists="do_nothing")
    assert ttl(mine) == (5, "delete")
    made = "0197a0a0-0000-4000-8000-000000000001"
    web.run(made, if_not_exists="create")
    assert ttl(made) == (90, "keep_latest")


@pytest.mark.parametrize(
    ("project", "named"),
    [
        ({"http": {"mount_prefix": "agents"}}, "http.mount_prefix"),
        ({"http": {"mount_prefix": 5}}, "http.mount_prefix"),
        ({"http": {"disable_threads": "yes"}}, "http.disable_threads"),
        ({"http": {"disable_everything": True}}, "http.disable_"),
        ({"http": {"disable_meta": 1}}, "http.disable_meta"),
        ({"http": {"configurable_headers": ["x-a"]}}, "http.configurable_headers"),
        ({"http": {"configurable_headers": {"includes": "x-a"}}}, "http.configurable_headers.includes"),
        ({"checkpointer": {"ttl": 5}}, "checkpointer.ttl"),
        ({"checkpointer": {"ttl": {"default_ttl": "soon"}}}, "checkpointer.ttl.default_ttl"),
        ({"checkpointer": {"ttl": {"default_ttl": 0}}}, "checkpointer.ttl.default_ttl"),
        ({"checkpointer": {"ttl": {"default_ttl": 5, "strategy": "burn"}}}, "checkpointer.ttl.strategy"),
    ],
)
def test_what_makes_no_sense_is_refused_at_start_by_its_name(serve: Serve, project: Any, named: str) -> None:
    with pytest.raises(GraphConfigError, match=named):
        serve(**project)
