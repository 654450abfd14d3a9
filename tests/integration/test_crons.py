"""Crons: each time fires once, nothing floods, and clients see what will happen."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runyard.engine import crons as engine_crons, wire
from runyard.engine.crons import Crons
from runyard.engine.run import Phase, RunRequest
from runyard.engine.store import crons as calls, runs
from runyard.engine.store.crons import Cron
from runyard.engine.store.recovery import clock
from tests.support.store import EVENTS_TTL_MS, Bench
from tests.support.web import Web

HOUR_MS = 3_600_000


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, partitions=4)
    yield made
    made.close()


def cron(bench: Bench, **facts: Any) -> Cron:
    """A cron that the engine records; every hour, unless the facts say otherwise."""
    given = {
        "cron_id": "", "assistant_id": str(uuid.uuid4()), "graph_id": "g", "own": True, "thread_id": None,
        "schedule": "0 * * * *", "timezone": None, "end_at": None, "enabled": True, "on_run_completed": "delete",
        "request": RunRequest(input={"a": 1}), "strategy": "enqueue", "payload": {}, "metadata": {"label": "x"},
    }  # fmt: skip
    return Crons(bench.service).create(Cron(**{**given, **facts}))


def now(bench: Bench) -> int:
    return bench.do(clock())


def overdue(bench: Bench, made: Cron, by_ms: int = HOUR_MS) -> None:
    """Let a cron's next time have passed."""
    at, when = bench.keys.of_run(made.cron_id), now(bench) - by_ms
    bench.client.hset(at.cron(made.cron_id), "next_at", when)
    bench.client.zadd(at.crons_due, {made.cron_id: when})


def read(bench: Bench, made: Cron) -> Cron:
    return Crons(bench.service).get(made.cron_id)


def started(bench: Bench, made: Cron) -> list[str]:
    """Ids of the runs a cron has started, from the records of all runs."""
    keys = [key.decode() for key in bench.client.scan_iter(match="*:run:*") if bench.client.type(key) == b"hash"]
    found = [bench.get(key.rpartition(":")[2]) for key in keys if len(key.rpartition(":")[2]) == 36]
    return [run.run_id for run in found if run and run.metadata.get("cron_id") == made.cron_id]


def test_a_time_that_has_come_starts_one_run_and_sets_the_next(bench: Bench) -> None:
    made = cron(bench)
    assert made.next_at is not None
    assert now(bench) < made.next_at <= now(bench) + HOUR_MS
    bench.recovery().sweep()
    assert started(bench, made) == []
    overdue(bench, made)
    bench.recovery().sweep()
    bench.recovery().sweep()
    (run_id,) = started(bench, made)
    run, after = bench.get(run_id), read(bench, made)
    assert run is not None
    assert (run.phase, run.temporary, run.request.input) == (Phase.WAITING, True, {"a": 1})
    assert run.request.timeout_s == bench.settings.run_deadline_s
    assert run.metadata == {"label": "x", "cron_id": made.cron_id}
    assert [wake.run_id for wake in bench.wakes] == [run_id]
    assert (after.fired, after.last_run_id, after.next_at) == (1, run_id, made.next_at)


def test_what_was_missed_is_made_up_for_by_one_run(bench: Bench) -> None:
    made = cron(bench, schedule="* * * * *")
    overdue(bench, made, by_ms=30 * 24 * HOUR_MS)
    for _ in range(3):
        bench.recovery().sweep()
    after = read(bench, made)
    assert len(started(bench, made)) == after.fired == 1
    assert after.next_at is not None
    assert after.next_at > now(bench)


def test_many_sweepers_fire_each_time_once(bench: Bench) -> None:
    made = [cron(bench) for _ in range(5)]
    for round_ in range(1, 4):
        for each in made:
            overdue(bench, each)
        at = now(bench)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: Crons(bench.service).sweep(at), range(16)))  # noqa: B023 - used within the round
        assert [len(started(bench, each)) for each in made] == [round_] * 5


def test_a_firing_whose_reply_was_lost_is_the_same_firing(bench: Bench) -> None:
    made = cron(bench)
    overdue(bench, made)
    due = read(bench, made)
    run = Crons(bench.service)._run_of(due)
    call = calls.fire(bench.keys, due, run, next_at=due.next_at, create_thread=True)
    assert [bench.do(call), bench.do(call)] == [(Phase.WAITING, pytest.approx(now(bench), abs=5_000))] * 2
    assert started(bench, made) == [run.run_id]
    other = calls.fire(bench.keys, made, Crons(bench.service)._run_of(made), next_at=None, create_thread=True)
    assert bench.do(other) is None  # it was to fire at another time


def test_a_record_that_was_sent_twice_is_one_and_a_late_edit_is_refused(bench: Bench) -> None:
    made = cron(bench)
    again = bench.do(calls.put(bench.keys, Cron(**{**vars_of(made), "revision": 0}), next_at=made.next_at))
    assert (again.cron_id, again.revision) == (made.cron_id, 1)
    edited = Cron(**{**vars_of(made), "schedule": "5 * * * *"})
    assert bench.do(calls.put(bench.keys, edited, next_at="unchanged")).revision == 2
    late = Cron(**{**vars_of(made), "schedule": "6 * * * *"})
    assert bench.do(calls.put(bench.keys, late, next_at="unchanged")) is None
    assert [bench.do(calls.delete(bench.keys, made.cron_id, None)) for _ in range(2)] == [True, False]
    assert bench.do(calls.put(bench.keys, edited, next_at="unchanged")) is None
    assert bench.dump() == {}


def vars_of(made: Cron) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__slots__}


def test_on_a_thread_the_strategies_hold(bench: Bench) -> None:
    thread_id = bench.service.create_thread().thread_id
    queue, skip, cut = (cron(bench, thread_id=thread_id, strategy=word) for word in ("enqueue", "reject", "interrupt"))
    first = bench.create(thread_id)
    overdue(bench, queue)
    overdue(bench, skip)
    bench.recovery().sweep()
    (queued,) = started(bench, queue)
    assert bench.phase(bench.get(queued)) is Phase.QUEUED  # type: ignore[arg-type]
    assert started(bench, skip) == []
    assert "THREAD_BUSY" in (read(bench, skip).problem or "")
    assert read(bench, skip).next_at == skip.next_at
    overdue(bench, cut)
    bench.recovery().sweep()
    (last,) = started(bench, cut)
    phases = [bench.phase(bench.get(run_id)) for run_id in (first.run_id, queued, last)]  # type: ignore[arg-type]
    assert phases == [Phase.CANCELLED, Phase.CANCELLED, Phase.WAITING]


def test_a_cron_goes_with_its_thread_and_stops_without_its_assistant(bench: Bench) -> None:
    thread_id = bench.service.create_thread().thread_id
    homeless, orphan, late = cron(bench, thread_id=thread_id), cron(bench, own=False), cron(bench)
    bench.service.delete_thread(thread_id)
    assert bench.do(calls.get(bench.keys, homeless.cron_id)) is None
    # one that was made while its thread was being deleted
    bench.client.hset(bench.keys.of_run(late.cron_id).cron(late.cron_id), "facts", _with(late, thread_id=thread_id))
    for each in (orphan, late):
        overdue(bench, each)
    bench.recovery().sweep()
    assert bench.do(calls.get(bench.keys, late.cron_id)) is None
    after = read(bench, orphan)
    assert (after.enabled, after.next_at, started(bench, orphan)) == (False, None, [])
    assert "disabled: AssistantNotFound" in (after.problem or "")


def test_threads_of_kept_runs_stay_and_the_others_go(bench: Bench) -> None:
    kept, gone = cron(bench, on_run_completed="keep"), cron(bench)
    for each in (kept, gone):
        overdue(bench, each)
    bench.recovery().sweep()
    for each, stays in ((kept, True), (gone, False)):
        run = bench.get(started(bench, each)[0])
        assert run is not None
        claim = bench.claimed(run)
        bench.do(runs.end(bench.keys, run, claim.fence, Phase.SUCCEEDED, events_ttl_ms=EVENTS_TTL_MS))
        shown, _ = bench.service.search_threads(ids=[run.thread_id])
        assert bool(shown) == stays


def test_after_its_end_it_does_not_fire(bench: Bench) -> None:
    soon = now(bench) + 30_000
    assert cron(bench, schedule="0 0 1 1 *", end_at=soon).next_at is None
    last = cron(bench, end_at=now(bench) + HOUR_MS)
    overdue(bench, last)
    bench.client.hset(bench.keys.of_run(last.cron_id).cron(last.cron_id), "facts", _with(last, end_at=1))
    bench.recovery().sweep()
    assert (len(started(bench, last)), read(bench, last).next_at) == (1, None)


def _with(made: Cron, **facts: Any) -> bytes:
    return wire.encode({**made.facts(), **facts})


def test_a_full_queue_puts_a_firing_off_and_its_tenants_alone(redis_url: str) -> None:
    bench = Bench(redis_url, partitions=1, max_queue_age_s=30)
    late = bench.create(tenant="acme")
    line = bench.at.line("default", "acme")
    bench.client.zincrby(line, -60_000, late.run_id)
    theirs, free = (
        Crons(bench.service.of(tenant)).create(dataclasses.replace(cron(bench), cron_id=""))
        for tenant in ("acme", "zoo")
    )
    overdue(bench, theirs)
    overdue(bench, free)
    recovery = bench.recovery()
    for _ in range(3):
        recovery.sweep()
    assert started(bench, theirs) == []
    assert len(started(bench, free)) == 1
    bench.client.zincrby(line, 60_000, late.run_id)
    recovery._crons._service.admission._seen.clear()  # the second that the last look holds has passed
    recovery.sweep()
    assert len(started(bench, theirs)) == 1
    bench.close()


def test_many_crons_that_a_tenants_queue_keeps_from_firing_do_not_hide_those_behind_them(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_crons, "_BATCH", 3)
    bench = Bench(redis_url, partitions=1, max_queue_age_s=30)
    late = bench.create(tenant="acme")
    line = bench.at.line("default", "acme")
    bench.client.zincrby(line, -60_000, late.run_id)
    tenants = ("acme",) * 7 + ("zoo",)
    made = [Crons(bench.service.of(tenant)).create(dataclasses.replace(cron(bench), cron_id="")) for tenant in tenants]
    for number, one in enumerate(made):
        overdue(bench, one, by_ms=HOUR_MS - number * 1000)
    recovery = bench.recovery()
    for _ in range(3):
        recovery.sweep()
    assert [len(started(bench, one)) for one in made] == [0] * 7 + [1]
    bench.client.zincrby(line, 60_000, late.run_id)
    recovery._crons._service.admission._seen.clear()  # the second that the last look holds has passed
    for _ in range(4):
        recovery.sweep()
    assert [len(started(bench, one)) for one in made] == [1] * 8
    bench.close()


def test_a_tenant_knows_its_own_crons(bench: Bench) -> None:
    mine, theirs = Crons(bench.service.of("")), Crons(bench.service.of("acme"))
    made = theirs.create(Cron(**{**vars_of(cron(bench)), "metadata": {"a": 1}}))
    assert [each.cron_id for each in theirs.all()] == [made.cron_id]
    assert made.cron_id not in [each.cron_id for each in mine.all()]
    overdue(bench, made)
    bench.recovery().sweep()
    run = bench.get(started(bench, made)[0])
    assert run is not None
    assert run.tenant == "acme"


# --- over HTTP


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project")


BODY = {"assistant_id": "plain", "schedule": "0 9 * * *", "input": {"text": "hi"}}


def test_a_cron_is_made_found_changed_and_deleted(web: Web) -> None:
    thread_id = web.thread()
    end = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    own = web.call("POST", "/runs/crons", {**BODY, "metadata": {"k": 1}, "timezone": "Europe/Berlin", "end_time": end})
    threaded = web.call("POST", f"/threads/{thread_id}/runs/crons", {**BODY, "enabled": False, "webhook": None})
    assert (own.status_code, threaded.status_code) == (200, 200)
    made = own.json
    assert (made["thread_id"], made["on_run_completed"], made["enabled"]) == (None, "delete", True)
    assert datetime.fromisoformat(made["end_time"]) == datetime.fromisoformat(end).replace(
        microsecond=datetime.fromisoformat(made["end_time"]).microsecond
    )
    assert datetime.fromisoformat(made["next_run_date"]).minute == 0
    assert made["payload"]["input"] == {"text": "hi"}
    assert made["payload"]["assistant_id"] == made["assistant_id"]  # whatever name it was given by
    assert (threaded.json["thread_id"], threaded.json["next_run_date"]) == (thread_id, None)

    path = f"/runs/crons/{made['cron_id']}"
    assert web.call("GET", path).json == made
    ids = [each["cron_id"] for each in web.call("POST", "/runs/crons/search", {}).json]
    assert ids == [threaded.json["cron_id"], made["cron_id"]]
    for wanted, count in (
        ({"thread_id": thread_id}, 1), ({"enabled": True}, 1), ({"metadata": {"k": 1}}, 1), ({"metadata": {"k": 2}}, 0),
        ({"assistant_id": "plain"}, 2), ({"assistant_id": str(uuid.uuid4())}, 0), ({}, 2),
    ):  # fmt: skip
        assert web.call("POST", "/runs/crons/count", wanted).json == count
    page = web.call("POST", "/runs/crons/search", {"limit": 1, "sort_by": "next_run_date", "select": ["cron_id"]})
    assert page.json == [{"cron_id": made["cron_id"]}]
    assert (page.headers["X-Pagination-Total"], page.headers["X-Pagination-Next"]) == ("2", "1")

    changed = web.call("PATCH", path, {"schedule": "30 10 * * *", "metadata": {"m": 2}, "end_time": None}).json
    assert (changed["schedule"], changed["timezone"], changed["end_time"]) == ("30 10 * * *", "Europe/Berlin", None)
    assert changed["metadata"] == {"k": 1, "m": 2}
    assert changed["next_run_date"] != made["next_run_date"]
    off = web.call("PATCH", path, {"enabled": False}).json
    assert (off["next_run_date"], off["schedule"]) == (None, "30 10 * * *")
    assert web.call("PATCH", path, {"enabled": True}).json["next_run_date"] == changed["next_run_date"]
    assert web.call("DELETE", path).status_code == 204
    assert [web.call(method, path, {}).status_code for method in ("GET", "PATCH", "DELETE")] == [404, 404, 404]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"schedule": "nope"}, 422, "schedule: must be five cron fields"),
        ({"schedule": "0 0 30 2 *"}, 422, "schedule: "),
        ({"schedule": None}, 422, "schedule: "),
        ({"timezone": "Mars/Base"}, 422, "timezone: must be the name of a time zone"),
        ({"end_time": "tomorrow"}, 422, "end_time: must be an ISO 8601 date and time"),
        ({"end_time": "2020-01-01T00:00:00Z"}, 422, "end_time: must lie in the future"),
        ({"end_time": "9999-12-31T23:59:59-10:00"}, 422, "end_time: must be an ISO 8601 date and time"),
        ({"on_run_completed": "maybe"}, 422, "on_run_completed"),
        ({"enabled": 1}, 422, "enabled"),
        ({"input": {"text": 5}}, 422, "input.text: must be text"),
        ({"webhook": "http://127.0.0.1/"}, 422, "webhook: 127.0.0.1 is inside this network"),
        ({"assistant_id": "nope"}, 404, "not found"),
        ({"config": {"configurable": {"a": 1}}, "context": {"a": 2}}, 400, "context: give"),
    ],
)
def test_a_wrong_cron_is_refused_by_field_and_leaves_nothing(web: Web, body: Any, status: int, said: str) -> None:
    thread_id = web.thread()
    for path in ("/runs/crons", f"/threads/{thread_id}/runs/crons"):
        answer = web.call("POST", path, {**BODY, **body})
        assert (answer.status_code, said in answer.json["detail"]) == (status, True), answer.json
    assert web.call("POST", "/runs/crons/count", {}).json == 0
    made = web.call("POST", "/runs/crons", BODY).json
    if "assistant_id" not in body and body != {"schedule": None}:
        answer = web.call("PATCH", f"/runs/crons/{made['cron_id']}", body)
        assert (answer.status_code, said in answer.json["detail"]) == (status, True), answer.json
    assert web.call("GET", f"/runs/crons/{made['cron_id']}").json == made
    assert web.call("POST", f"/threads/{uuid.uuid4()}/runs/crons", BODY).status_code == 404


def test_a_cron_that_would_fire_too_often_is_refused(redis_url: str, tmp_path: Path) -> None:
    web = Web(redis_url, tmp_path / "project", cron_min_interval_s=3600)
    answer = web.call("POST", "/runs/crons", {**BODY, "schedule": "*/30 * * * *"})
    assert answer.status_code == 422
    assert "schedule: '*/30 * * * *' fires every 1800 s, and the least is 3600 s" in answer.json["detail"]


def test_runs_start_with_the_assistant_as_it_is_then(web: Web, bench: Bench) -> None:
    made = web.call("POST", "/assistants", {"graph_id": "plain", "context": {"v": 1}, "metadata": {"team": "a"}}).json
    body = {**BODY, "assistant_id": made["assistant_id"], "context": {"mine": 1}}
    cron_id = web.call("POST", "/runs/crons", body).json["cron_id"]
    web.call("PATCH", f"/assistants/{made['assistant_id']}", {"context": {"v": 2}})
    service = web.app.extensions["runyard"].shared_service
    crons = Crons(service)
    run = crons._run_of(crons.get(cron_id))
    assert run.request.context == {"v": 2, "mine": 1}
    assert run.request.config["configurable"] == {"v": 2, "mine": 1, "cron_id": cron_id}
    assert run.metadata == {"team": "a", "cron_id": cron_id}
