"""Every route, tried as nobody, with the wrong scope, and as another tenant."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from runyard.app.auth.scopes import OPEN, SCOPES, declared
from runyard.engine.api_keys import ApiKeys
from runyard.engine.run import Phase
from runyard.engine.store import runs
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.tenancy import stored
from tests.support.web import Web

#: Stands in whatever the victim keeps, so that it is found wherever it leaks to.
SECRET = "the-victims-secret"
#: A stream answers 200 with the news that there is no such run: so the contract has it.
TOLD_IN_A_STREAM = {"streams.join_stream"}
#: JSON-RPC answers 200 with the error.
TOLD_IN_AN_ANSWER = {"a2a.message"}
#: Nobody has a session that could be ended.
ALWAYS_404 = {"mcp.end"}

QUERIES = {"store.get": "?namespace=a.b&key=k", "a2a.well_known": "?assistant_id=plain"}


class Doors:
    """A web application that asks for keys, and what one tenant has there."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.web = Web(redis_url, folder, auth="keys")
        self.app = self.web.app
        store = SyncStore.connect(redis_url)
        self.api_keys = ApiKeys(store, Keys())
        self.scopes = declared(self.app)
        everything = self.key("acme", "*")
        self.owner, self.other = {"X-Api-Key": everything}, {"X-Api-Key": self.key("other", "*")}
        mine: Any = {"headers": self.owner}
        call = self.web.call
        assistant = call("POST", "/assistants", {"graph_id": "plain", "name": SECRET}, **mine).json
        thread = call("POST", "/threads", {"metadata": {"graph_id": "plain", "s": SECRET}}, **mine).json
        dead = call("POST", "/runs", {"assistant_id": "failing", "metadata": {"s": SECRET}}, **mine).json
        self._bury(store, dead["run_id"])  # before another run of the tenant waits, whose turn it might be
        run = call("POST", f"/threads/{thread['thread_id']}/runs", {"assistant_id": "plain"}, **mine).json
        call("PUT", "/store/items", {"namespace": ["a", "b"], "key": "k", "value": {"s": SECRET}}, **mine)
        fires = {"assistant_id": "plain", "schedule": "0 0 1 1 *", "metadata": {"s": SECRET}}
        cron = call("POST", "/runs/crons", fires, **mine).json
        self.ids = {
            "cron_id": cron["cron_id"],
            "thread_id": thread["thread_id"],
            "run_id": run["run_id"],
            "dead_id": dead["run_id"],
            "assistant_id": assistant["assistant_id"],
            "checkpoint_id": str(uuid.uuid4()),
            "name": str(uuid.uuid4()),
        }
        store.close()

    def key(self, tenant: str, *scopes: str) -> str:
        return self.api_keys.create("test", scopes, tenant=stored(tenant))[1]

    def _bury(self, store: SyncStore, run_id: str) -> None:
        claim = store.do(runs.claim(Keys(), run_id, owner="w", nonce="n", lease_ms=60_000))
        assert claim is not None
        error = {"error": "E", "message": SECRET}
        store.do(runs.end(Keys(), claim.run, claim.fence, Phase.FAILED, events_ttl_ms=60_000, error=error))

    def routes(self) -> Iterator[tuple[str, str, str]]:
        """Endpoint, method, and a path with the victim's ids in it."""
        adapter = self.app.url_map.bind("localhost")
        for rule in self.app.url_map.iter_rules():
            known = {**self.ids, **({"run_id": self.ids["dead_id"]} if "dead" in rule.endpoint else {})}
            named = {name: known.get(name, str(uuid.uuid4())) for name in rule.arguments}
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                path = adapter.build(rule.endpoint, {**named, **(rule.defaults or {})}, method)
                yield rule.endpoint, method, path + QUERIES.get(rule.endpoint, "")

    def body(self, endpoint: str, method: str) -> Any:
        """What the route would accept from the victim. A new one that takes more is added here."""
        if method == "GET":
            return None
        thread, run, assistant = (self.ids[name] for name in ("thread_id", "run_id", "assistant_id"))
        item = {"namespace": ["a", "b"], "key": "k"}
        starts = {"assistant_id": assistant}
        known: dict[str, Any] = {
            "stateless runs.create_batch": [starts],
            "stateless runs.cancel_many": {"thread_id": thread, "run_ids": [run]},
            "state.get_at_checkpoint": {"checkpoint": {"thread_id": thread}},
            "state.update": {"values": {}},
            "store.put": {**item, "value": {"mine": True}},
            "store.delete": item,
            "threads.prune": {"thread_ids": [thread]},
            "threads.create": {"thread_id": str(uuid.uuid4())},
            "threads.patch": {"metadata": {"a": 1}},
            "threads.search": {"ids": [thread]},
            "thread streams.command": {"id": 1, "method": "run.start", "params": {"assistant_id": "plain"}},
            "thread streams.stream_events": {"channels": ["values"]},
            "assistants.create": {"graph_id": "plain"},
            "assistants.patch": {"name": "taken over"},
            "assistants.latest": {"version": 1},
            "dead letters.replay_all": {"graph_id": "failing"},
            "dead letters.discard": {"reason": "mine"},
            "crons.create": {"assistant_id": "plain", "schedule": "0 0 1 1 *"},
            "crons.create_for_thread": {"assistant_id": "plain", "schedule": "0 0 1 1 *"},
            "crons.patch": {"enabled": False},
            "mcp.message": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
            "a2a.message": {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": f"{thread}:{run}"}},
            "circuits.force": {"state": "open", "reason": "mine"},
        }
        on_thread = {"assistant_id": "plain", "if_not_exists": "create", "multitask_strategy": "rollback"}
        if endpoint in ("runs.create", "streams.wait", "streams.stream"):
            return on_thread
        return known.get(endpoint, starts if endpoint.startswith("stateless runs.") else {})


@pytest.fixture
def doors(redis_url: str, tmp_path: Path) -> Doors:
    return Doors(redis_url, tmp_path / "project")


def text_of(answer: Any) -> str:
    """What was answered at once; a stream may have no end."""
    if answer.is_streamed and answer.status_code < 300:
        first = b"".join(part for part, _ in zip(answer.response, range(1), strict=False))
        answer.close()
        return first.decode()
    return str(answer.get_data(as_text=True))


def test_nobody_gets_anywhere_and_learns_nothing(doors: Doors) -> None:
    for endpoint, method, path in doors.routes():
        answer = doors.web.call(method, path, doors.body(endpoint, method))
        if doors.scopes[endpoint] == OPEN:
            assert answer.status_code in (200, 503), endpoint
            assert SECRET not in text_of(answer)
            continue
        assert answer.status_code == 401, (endpoint, text_of(answer))
        assert list(answer.json) == ["detail"]
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_without_a_routes_scope_is_refused_by_name(doors: Doors) -> None:
    without = {scope: doors.key("acme", *(SCOPES.keys() - {scope})) for scope in SCOPES}
    for endpoint, method, path in doors.routes():
        scope = doors.scopes[endpoint]
        if scope == OPEN:
            continue
        assert scope is not None
        headers = {"X-Api-Key": without[scope]}
        answer = doors.web.call(method, path, doors.body(endpoint, method), headers=headers)
        assert answer.status_code == 403, (endpoint, text_of(answer))
        assert scope in answer.json["detail"]


def test_another_tenant_finds_nothing_behind_an_id_and_changes_nothing(doors: Doors, redis: redis_py.Redis) -> None:
    marks = ["acme", *doors.ids.values()]
    victims = {key: redis.dump(key) for key in redis.scan_iter() if any(mark in key.decode() for mark in marks)}
    assert len(victims) > 8
    for endpoint, method, path in doors.routes():
        if doors.scopes[endpoint] == OPEN:
            continue
        answer = doors.web.call(method, path, doors.body(endpoint, method), headers=doors.other)
        said = text_of(answer)
        assert SECRET not in said, endpoint
        by_id = any(value in path for value in doors.ids.values())
        if endpoint in TOLD_IN_A_STREAM:
            assert "NotFound" in said
        elif endpoint in TOLD_IN_AN_ANSWER:
            assert "not found" in said
        elif by_id or "stateless" in endpoint or endpoint in ALWAYS_404:
            assert answer.status_code == 404, (endpoint, answer.status_code, said)
        else:
            assert answer.status_code < 300, (endpoint, answer.status_code, said)
            assert not [value for value in doors.ids.values() if value in said], endpoint
    assert {key: redis.dump(key) for key in victims} == victims


def test_the_victim_itself_finds_all_of_it(doors: Doors) -> None:
    for endpoint, method, path in doors.routes():
        if method == "GET" and doors.scopes[endpoint] != OPEN and "checkpoint" not in endpoint:
            answer = doors.web.call(method, path, headers=doors.owner)
            absent = [doors.ids["checkpoint_id"], doors.ids["name"], "items", "subgraphs"]
            if not any(word in path for word in absent):
                assert answer.status_code == 200, (endpoint, path, text_of(answer))
            answer.close()
