"""API keys from the making to the end: over HTTP, at the store, and on the command line."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from click.testing import CliRunner

from runyard.app.auth.api_keys import KeyCheck
from runyard.app.cli import cli
from runyard.app.errors import NotAuthenticated
from runyard.engine.api_keys import ApiKeys
from runyard.engine.errors import ApiKeyNotFound
from runyard.engine.store import api_keys as stored
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from tests.support.store import dump
from tests.support.web import Web


@pytest.fixture
def api_keys(redis_url: str) -> ApiKeys:
    return ApiKeys(SyncStore.connect(redis_url), Keys())


def check(api_keys: ApiKeys, *, keep_s: float = 0) -> KeyCheck:
    return KeyCheck(lambda: api_keys, keep_s=keep_s)


def expire(redis: redis_py.Redis, key_id: str) -> None:
    redis.hset(f"ry:{{api_keys}}:{key_id}", "expires_at", round(time.time() * 1000) - 1)


def test_the_store_has_no_secret_that_opens_anything(api_keys: ApiKeys, redis: redis_py.Redis) -> None:
    made, text = api_keys.create("ci", ["runs:read"])
    held = b"".join(redis.hgetall(f"ry:{{api_keys}}:{made.key_id}").values()).decode()
    assert text.rpartition("_")[2] not in held
    assert re.fullmatch(r"ry_[0-9a-f]{16}_[\w-]{43}", text)


def test_a_key_tells_who_it_is(api_keys: ApiKeys) -> None:
    made, text = api_keys.create("ci", ["runs:read"], tenant="acme")
    who = check(api_keys).identify(text)
    assert (who.name, who.tenant, who.scopes) == (f"key:{made.key_id}", "acme", {"runs:read"})
    assert who.user is not None
    assert who.user["permissions"] == ["runs:read"]


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"), lambda t: t + "x", lambda t: "ry_" + "0" * 16 + t[19:]],
)
def test_what_only_looks_like_a_key_is_answered_alike(api_keys: ApiKeys, change: Any) -> None:
    _, text = api_keys.create("ci", ["runs:read"])
    with pytest.raises(NotAuthenticated, match=r"^The API key is not valid\.$"):
        check(api_keys).identify(change(text))


def test_an_expired_key_says_so_to_whoever_has_it(api_keys: ApiKeys, redis: redis_py.Redis) -> None:
    made, text = api_keys.create("ci", ["runs:read"], ttl_s=3600)
    assert check(api_keys).identify(text)
    expire(redis, made.key_id)
    with pytest.raises(NotAuthenticated, match="has expired"):
        check(api_keys).identify(text)


def test_rotation_leaves_both_for_a_while_and_then_the_new_one(api_keys: ApiKeys, redis: redis_py.Redis) -> None:
    old, old_text = api_keys.create("ci", ["runs:read"], tenant="acme")
    new, new_text = api_keys.rotate(old.key_id, overlap_s=3600)
    assert (new.name, new.tenant, new.scopes) == (old.name, old.tenant, old.scopes)
    assert check(api_keys).identify(old_text)
    assert check(api_keys).identify(new_text)
    replaced = api_keys.get(old.key_id)
    assert replaced.replaced_by == new.key_id
    assert replaced.expires_at is not None
    assert 3_590_000 < replaced.expires_at - time.time() * 1000 < 3_610_000
    expire(redis, old.key_id)
    with pytest.raises(NotAuthenticated):
        check(api_keys).identify(old_text)
    again, _ = api_keys.rotate(old.key_id, overlap_s=7200)
    assert api_keys.get(old.key_id).state(time.time() * 1000) == "expired", "an overlap gives no expired key back"
    assert again.key_id != new.key_id


def test_a_revoked_key_works_no_longer_than_it_is_remembered(api_keys: ApiKeys) -> None:
    made, text = api_keys.create("ci", ["runs:read"])
    remembering, fresh = check(api_keys, keep_s=3600), check(api_keys, keep_s=0)
    assert remembering.identify(text)
    api_keys.revoke(made.key_id)
    assert remembering.identify(text)
    with pytest.raises(NotAuthenticated, match="was revoked"):
        fresh.identify(text)
    for change in (api_keys.revoke, lambda key_id: api_keys.rotate(key_id, overlap_s=1)):
        with pytest.raises(ApiKeyNotFound):
            change("0" * 16)
    with pytest.raises(ApiKeyNotFound):
        api_keys.rotate(made.key_id, overlap_s=60)


def test_a_remembered_key_costs_no_round_trip_and_its_use_is_noted_once(
    api_keys: ApiKeys, redis: redis_py.Redis
) -> None:
    made, text = api_keys.create("ci", ["runs:read"])
    known = check(api_keys, keep_s=3600)
    known.identify(text)
    assert api_keys.get(made.key_id).last_used_at is not None
    before = redis.info("commandstats")
    for _ in range(20):
        known.identify(text)
    after = redis.info("commandstats")
    assert after["cmdstat_hgetall"]["calls"] == before["cmdstat_hgetall"]["calls"]
    assert after["cmdstat_hset"]["calls"] == before["cmdstat_hset"]["calls"]


def test_a_script_whose_reply_was_lost_does_nothing_the_second_time(api_keys: ApiKeys, redis: redis_py.Redis) -> None:
    old, _ = api_keys.create("old", ["runs:read"])
    store, fields = api_keys._store, {"name": "n", "digest": "d", "scopes": "runs:read", "tenant": ""}
    for call in (stored.save(Keys(), "new", fields, replaces=old.key_id, overlap_ms=5), stored.revoke(Keys(), "new")):
        first, after = store.do(call), dump(redis)
        assert store.do(call) == first
        assert dump(redis) == after


def test_keys_are_managed_from_the_command_line(redis_url: str, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        done = CliRunner().invoke(cli, ["keys", *words, "--redis-url", redis_url, "--json"], standalone_mode=False)
        assert done.exception is None, done.output
        told = done.stdout[done.stdout.index("{") :]  # the web beside it may have logged a line
        return json.JSONDecoder().raw_decode(told)[0]

    made = run("create", "ci", "--scopes", "threads:write runs:*", "--tenant", "acme", "--expires", "90d")
    web = Web(redis_url, tmp_path / "project", auth="keys", auth_cache_s=0)
    ask = {"headers": {"Authorization": f"Bearer {made['key']}"}}
    assert web.call("POST", "/threads", {}, **ask).status_code == 200
    assert web.call("POST", "/threads/search", {}, **ask).status_code == 403
    rotated = run("rotate", made["key_id"], "--overlap", "1h")
    assert run("revoke", made["key_id"])["state"] == "revoked"
    assert web.call("POST", "/threads", {}, **ask).status_code == 401
    listed = run("list")["keys"]
    assert [(key["key_id"], key["state"], key["tenant"]) for key in listed] == [
        (rotated["key_id"], "active", "acme"),
        (made["key_id"], "revoked", "acme"),
    ]
    assert "key" not in listed[0]
    refused = CliRunner().invoke(cli, ["keys", "create", "x", "--scopes", "run:write", "--redis-url", redis_url])
    assert "there is no 'run:write'" in refused.stderr
