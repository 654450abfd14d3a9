"""A request that comes twice starts one run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from runyard.engine.api_keys import ApiKeys
from runyard.engine.idempotency import Idempotency
from runyard.engine.ids import partition_of_thread
from runyard.engine.run import Phase
from runyard.engine.store import runs
from tests.support.web import Web

BODY = {"assistant_id": "plain", "input": {"text": "a"}}


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project")


def post(web: Web, path: str, key: str | None, body: Any = None, **headers: str) -> Any:
    named = {"Idempotency-Key": key} if key is not None else {}
    return web.app.test_client().post(path, json=body or BODY, headers={**named, **headers})


@pytest.mark.parametrize("more", [{}, {"on_completion": "keep"}])
def test_without_a_thread_the_same_key_is_the_same_run_and_another_body_a_conflict(web: Web, more: Any) -> None:
    first, again = (post(web, "/runs", "k1", {**BODY, **more}).json for _ in range(2))
    assert first["run_id"] == again["run_id"]
    assert first["thread_id"] == again["thread_id"]
    assert post(web, "/runs", "k2", {**BODY, **more}).json["run_id"] != first["run_id"]
    conflict = post(web, "/runs", "k1", {**BODY, **more, "input": {"text": "b"}})
    assert conflict.status_code == 409
    assert "Idempotency-Key" in conflict.json["detail"]
    assert len(web.wakes) == 2


def test_on_a_thread_a_key_counts_for_that_thread(web: Web) -> None:
    one, other = web.thread(), web.thread()
    made = [post(web, f"/threads/{thread}/runs", "k").json["run_id"] for thread in (one, one, other)]
    assert made[0] == made[1] != made[2]
    assert web.call("GET", f"/threads/{one}/runs").json[0]["run_id"] == made[0]


def test_a_key_is_kept_for_a_day_with_neither_key_nor_request_in_it(web: Web, redis: redis_py.Redis) -> None:
    post(web, "/runs", "a-secret-key")
    [kept] = list(redis.scan_iter("*:idempotency:*"))
    assert 86_300_000 < redis.pttl(kept) <= 86_400_000
    assert b"a-secret-key" not in kept
    redis.delete(kept)
    assert post(web, "/runs", "a-secret-key", {**BODY, "input": {"text": "b"}}).status_code == 200


@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt", "rollback"])
def test_of_racing_duplicates_one_starts_the_run_and_none_ends_it(web: Web, strategy: str) -> None:
    thread = web.thread()
    before = web.run(thread).json["run_id"] if strategy in ("interrupt", "rollback") else None
    body = {**BODY, "multitask_strategy": strategy}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: post(web, f"/threads/{thread}/runs", "k", body), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    [made] = {answer.json["run_id"] for answer in answers}
    assert made != before
    service = web.app.extensions["runyard"].shared_service
    assert service.get_run(made).phase is Phase.WAITING
    listed = [run["run_id"] for run in web.call("GET", f"/threads/{thread}/runs").json]
    assert listed == [made, *([before] if strategy == "interrupt" else [])]


def test_a_repeated_interrupt_leaves_what_came_after_it_alone(web: Web) -> None:
    thread = web.thread()
    body = {**BODY, "multitask_strategy": "interrupt"}
    first = post(web, f"/threads/{thread}/runs", "k", body).json["run_id"]
    later = web.run(thread).json["run_id"]
    assert post(web, f"/threads/{thread}/runs", "k", body).json["run_id"] == first
    assert web.call("GET", f"/runs/{later}").json["status"] == "pending"


def test_tenants_have_keys_of_their_own(redis_url: str, tmp_path: Path) -> None:
    web = Web(redis_url, tmp_path / "project", auth="keys")
    service = web.app.extensions["runyard"].shared_service
    keys = ApiKeys(service.store, service.keys)
    made = [
        post(web, "/runs", "k", {**BODY, "input": {"text": tenant}}, **{"X-Api-Key": key}).json["run_id"]
        for tenant in ("acme", "other")
        for key in [keys.create("t", ["*"], tenant=tenant)[1]]
    ]
    assert len(set(made)) == 2


def test_a_batch_has_a_key_for_each_of_its_runs(web: Web) -> None:
    first, again = (
        [
            run["run_id"]
            for run in web.app.test_client()
            .post("/runs/batch", json=[BODY, BODY], headers={"Idempotency-Key": "k"})
            .json
        ]
        for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_a_key_that_is_none_is_refused_by_name(web: Web, key: str) -> None:
    answer = post(web, "/runs", key)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json["detail"]


def test_a_refused_request_uses_up_no_key(web: Web) -> None:
    thread = web.thread()
    running = web.run(thread).json
    body = {**BODY, "multitask_strategy": "reject"}
    assert post(web, f"/threads/{thread}/runs", "k", body).status_code == 409
    web.call("POST", f"/threads/{thread}/runs/{running['run_id']}/cancel")
    assert post(web, f"/threads/{thread}/runs", "k", body).status_code == 200


@pytest.mark.parametrize("partitions", [1, 16, 1024])
def test_duplicates_meet_in_one_partition(partitions: int) -> None:
    once = Idempotency.of("k", BODY, tenant="acme")
    assert len({partition_of_thread(once.new_thread_id(partitions), partitions) for _ in range(5)}) == 1


def test_a_lost_reply_is_the_same_run_again(web: Web) -> None:
    service = web.app.extensions["runyard"].shared_service
    run = service.get_run(post(web, "/runs", "k").json["run_id"])
    once = Idempotency.of("other", BODY, tenant="")
    assert service.store.do(runs.create(service.keys, run, idempotency=once))[2] == run.run_id
