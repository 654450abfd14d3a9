"""The project's own langgraph_sdk.Auth object: who is let in, and what handlers refuse, filter and change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyard.engine.api_keys import ApiKeys
from runyard.engine.errors import ConfigError
from runyard.engine.given import config_of
from tests.support.web import Web

AUTH = """
from langgraph_sdk import Auth

auth = Auth()
USERS = {"ann": ["team"], "bob": [], "root": ["dead-letters:admin", "dead-letters:read"], "reader": ["read-only"]}

@auth.authenticate
async def who(authorization: str | None, headers: dict, method: str, path: str):
    if not authorization:
        raise Auth.exceptions.HTTPException(status_code=401, detail="no token")
    name = authorization.removeprefix("Bearer ")
    if name == "teapot":
        raise Auth.exceptions.HTTPException(status_code=418, detail="teapot", headers={"X-Tea": "yes"})
    if name == "crash":
        raise KeyError("secret-of-the-handler")
    if name == "garbled":
        raise ValueError("secret-of-the-handler")
    assert name in USERS, "who is that?"
    assert headers[b"authorization"] == authorization.encode()
    return {"identity": name, "permissions": USERS[name], "email": name + "@x.dev"}

@auth.on
async def owned(ctx, value):
    if "read-only" in ctx.permissions and ctx.action not in ("read", "search", "get", "list_namespaces"):
        return False
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}

@auth.on.assistants.search
async def all_assistants(ctx, value):
    return True

@auth.on.assistants.read
async def own_or_system(ctx, value):
    return None if ctx.user["identity"] == "root" else {"owner": {"$eq": ctx.user.identity}}

@auth.on.threads.read
async def shared(ctx, value):
    if ctx.user.identity == "ann":
        return {"owner": "ann"}
    return {"members": {"$contains": ctx.user.identity}}

@auth.on.store
async def own_corner(ctx, value):
    value["namespace"] = (ctx.user.identity, *(value.get("namespace") or ()))
"""
BARE = """
from langgraph_sdk import Auth
auth = Auth()

@auth.authenticate
def who(request):
    token = request.headers.get("authorization")
    return None if token is None else token.removeprefix("Bearer ")
"""


def web_with(redis_url: str, folder: Path, source: str, **settings: Any) -> Web:
    folder.mkdir(exist_ok=True)
    (folder / "auth.py").write_text(source)
    section = {"path": "./auth.py:auth", "disable_studio_auth": True}
    return Web(redis_url, folder, project={"auth": section}, **settings)


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return web_with(redis_url, tmp_path / "project", AUTH)


Ask = Callable[..., Any]


@pytest.fixture
def ask(web: Web) -> Ask:
    def call(user: str, method: str, path: str, body: Any = None) -> Any:
        return web.call(method, path, body, headers={"Authorization": f"Bearer {user}"})

    return call


def test_without_a_token_it_is_the_handlers_401_and_no_header_lets_anybody_pass(web: Web) -> None:
    for headers in ({}, {"X-Auth-Scheme": "langsmith"}, {"X-Auth-Scheme": "langsmith", "X-Api-Key": "lsv2_x"}):
        answer = web.call("POST", "/threads", {}, headers=headers)
        assert (answer.status_code, answer.json) == (401, {"detail": "no token"})
    assert [web.call("GET", path).status_code for path in ("/ok", "/info")] == [200, 200]


@pytest.mark.parametrize(("user", "status", "said"), [("teapot", 418, "teapot"), ("mallory", 401, "who is that?")])
def test_what_an_authenticator_raises_is_the_answer(ask: Ask, user: str, status: int, said: str) -> None:
    answer = ask(user, "POST", "/threads", {})
    assert (answer.status_code, answer.json) == (status, {"detail": said})
    assert user != "teapot" or answer.headers["X-Tea"] == "yes"


@pytest.mark.parametrize(("user", "status"), [("crash", 500), ("garbled", 400)])
def test_an_authenticator_that_crashes_lets_nobody_in_and_tells_nothing(ask: Ask, user: str, status: int) -> None:
    answer = ask(user, "POST", "/threads", {})
    assert answer.status_code == status
    assert "secret" not in answer.json["detail"]


def test_another_owners_thread_does_not_exist(ask: Ask) -> None:
    thread = ask("ann", "POST", "/threads", {"metadata": {"a": 1}}).json
    assert thread["metadata"] == {"a": 1, "owner": "ann"}
    at = f"/threads/{thread['thread_id']}"
    run = ask("ann", "POST", f"{at}/runs", {"assistant_id": "plain"}).json
    assert run["metadata"]["owner"] == "ann"
    body: Any
    for method, path, body in (
        ("GET", at, None), ("GET", f"{at}/state", None), ("GET", f"{at}/runs", None),
        ("GET", f"{at}/runs/{run['run_id']}", None), ("GET", f"/runs/{run['run_id']}", None),
        ("POST", f"{at}/runs", {"assistant_id": "plain", "multitask_strategy": "rollback"}),
        ("POST", f"{at}/runs/{run['run_id']}/cancel", None), ("DELETE", f"{at}/runs/{run['run_id']}", None),
        ("PATCH", at, {"metadata": {"owner": "bob"}}), ("POST", f"{at}/copy", None), ("DELETE", at, None),
        ("POST", f"{at}/history", {}), ("GET", f"{at}/runs/{run['run_id']}/join", None),
        ("GET", f"/runs/{run['run_id']}/records", None), ("GET", f"/runs/{run['run_id']}/partial", None),
        ("POST", f"{at}/commands", {"id": 1, "method": "run.start", "params": {"assistant_id": "plain"}}),
        ("POST", "/runs/cancel", {"thread_id": thread["thread_id"], "run_ids": [run["run_id"]]}),
    ):  # fmt: skip
        assert ask("bob", method, path, body).status_code == 404, (method, path)
    assert ask("bob", "POST", "/threads/search", {}).json == []
    assert ask("bob", "POST", "/threads/count", {}).json == 0
    assert ask("bob", "POST", "/threads/prune", {"thread_ids": [thread["thread_id"]]}).json == {"pruned_count": 0}
    assert (
        ask("bob", "POST", "/threads", {"thread_id": thread["thread_id"], "if_exists": "do_nothing"}).status_code == 409
    )
    assert ask("ann", "GET", f"{at}/runs/{run['run_id']}").json["status"] == "pending"


def test_a_filter_may_ask_for_membership(ask: Ask) -> None:
    thread = ask("bob", "POST", "/threads", {"metadata": {"members": ["reader", "bob"]}}).json
    at = f"/threads/{thread['thread_id']}"
    assert ask("reader", "GET", at).status_code == 200
    assert ask("ann", "GET", at).status_code == 404
    refused = ask("reader", "PATCH", at, {"metadata": {}})
    assert (refused.status_code, refused.json) == (403, {"detail": "Forbidden"})


def test_a_run_without_a_thread_is_its_owners(ask: Ask) -> None:
    run = ask("ann", "POST", "/runs", {"assistant_id": "plain"}).json
    assert ask("ann", "GET", f"/runs/{run['run_id']}").status_code == 200
    assert ask("bob", "GET", f"/runs/{run['run_id']}").status_code == 404
    assert ask("reader", "POST", "/runs", {"assistant_id": "plain"}).status_code == 403


def test_assistants_are_filtered_and_those_of_graphs_can_be_run(ask: Ask) -> None:
    made = ask("ann", "POST", "/assistants", {"graph_id": "plain", "assistant_id": None}).json
    at = f"/assistants/{made['assistant_id']}"
    assert made["metadata"] == {"owner": "ann"}
    assert ask("ann", "GET", at).status_code == 200
    for method, path, body in (
        ("GET", at, None), ("PATCH", at, {"name": "mine"}), ("DELETE", at, None), ("POST", f"{at}/versions", {}),
        ("GET", f"{at}/schemas", None), ("POST", "/runs", {"assistant_id": made["assistant_id"]}),
        ("POST", "/runs/crons", {"assistant_id": made["assistant_id"], "schedule": "0 0 1 1 *"}),
    ):  # fmt: skip
        assert ask("bob", method, path, body).status_code == 404, (method, path)
    again = {"graph_id": "plain", "assistant_id": made["assistant_id"], "if_exists": "do_nothing"}
    assert ask("bob", "POST", "/assistants", again).status_code == 409
    assert ask("bob", "POST", "/runs", {"assistant_id": "plain"}).status_code == 200


def test_crons_are_their_owners(ask: Ask) -> None:
    cron = ask("ann", "POST", "/runs/crons", {"assistant_id": "plain", "schedule": "0 0 1 1 *"}).json
    assert (cron["metadata"]["owner"], cron["user_id"]) == ("ann", "ann")
    at = f"/runs/crons/{cron['cron_id']}"
    assert [ask(user, "GET", at).status_code for user in ("ann", "bob")] == [200, 404]
    assert ask("bob", "DELETE", at).status_code == ask("bob", "PATCH", at, {"enabled": False}).status_code == 404
    assert ask("bob", "POST", "/runs/crons/search", {}).json == []
    assert len(ask("ann", "POST", "/runs/crons/search", {}).json) == 1


def test_a_handler_that_rewrites_namespaces_gives_each_user_a_corner(ask: Ask) -> None:
    for user in ("ann", "bob"):
        item = {"namespace": ["notes"], "key": "k", "value": {"of": user}}
        assert ask(user, "PUT", "/store/items", item).status_code == 204
        assert ask(user, "GET", "/store/items?namespace=notes&key=k").json["value"] == {"of": user}
    found = ask("ann", "POST", "/store/items/search", {"namespace_prefix": []}).json["items"]
    assert [item["value"] for item in found] == [{"of": "ann"}]
    assert ask("ann", "POST", "/store/namespaces", {}).json == {"namespaces": [["ann", "notes"]]}
    ask("bob", "DELETE", "/store/items", {"namespace": ["notes"], "key": "k"})
    assert ask("ann", "GET", "/store/items?namespace=notes&key=k").json is not None


def test_what_langgraphs_server_has_not_needs_a_permission(ask: Ask) -> None:
    assert ask("ann", "GET", "/dead-letters").status_code == 403
    assert ask("root", "GET", "/dead-letters").status_code == 200


def test_nodes_are_told_the_user(web: Web, ask: Ask) -> None:
    lie = {"configurable": {"langgraph_auth_user": {"identity": "root"}}}
    run = ask("ann", "POST", "/runs", {"assistant_id": "plain", "config": lie}).json
    stored = web.app.extensions["runyard"].shared_service.get_run(run["run_id"])
    told = config_of(stored, 25)["configurable"]["langgraph_auth_user"]
    assert (told["identity"], told["email"], told["permissions"]) == ("ann", "ann@x.dev", ["team"])
    assert "ann@x.dev" not in json.dumps(run)


def test_keys_of_ours_may_be_let_in_beside_it_and_handlers_see_them(redis_url: str, tmp_path: Path) -> None:
    web = web_with(redis_url, tmp_path / "project", AUTH, auth="keys")
    service = web.app.extensions["runyard"].shared_service
    made, text = ApiKeys(service.store, service.keys).create("ops", ["threads:write"])
    answer = web.call("POST", "/threads", {}, headers={"X-Api-Key": text})
    assert answer.json["metadata"] == {"owner": f"key:{made.key_id}"}


def test_an_authenticator_may_be_a_plain_function_and_take_the_request(redis_url: str, tmp_path: Path) -> None:
    web = web_with(redis_url, tmp_path / "project", BARE)
    assert web.call("POST", "/threads", {}).status_code == 401
    assert web.call("POST", "/threads", {}, headers={"Authorization": "Bearer ann"}).status_code == 200


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("auth = 1", "is not a langgraph_sdk.Auth object"),
        ("import nowhere_to_be_found", "cannot be loaded: ModuleNotFoundError"),
        ("from langgraph_sdk import Auth\nauth = Auth()\n@auth.authenticate\ndef who(tokn): ...", "takes 'tokn'"),
    ],
)
def test_an_auth_object_that_cannot_be_used_stops_the_server(
    redis_url: str, tmp_path: Path, source: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        web_with(redis_url, tmp_path / "project", source)


def test_tokens_and_an_authenticator_exclude_each_other(redis_url: str, tmp_path: Path) -> None:
    jwt = {"auth": "jwt", "jwt_issuer": "i", "jwt_audience": "a", "jwt_jwks": "/nowhere"}
    with pytest.raises(ConfigError, match="choose one"):
        web_with(redis_url, tmp_path / "project", BARE, **jwt)
