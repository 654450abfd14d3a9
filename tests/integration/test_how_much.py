"""How much of one tenant and graph at once, how long a queue may be, how large a worker may grow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from langgraph.graph import END, START, StateGraph

from runyard.engine import advance
from runyard.engine.admission import Admission, Look, is_full, retry_after_s
from runyard.engine.caps import caps_of
from runyard.engine.errors import Backlogged, ConfigError, TooManyWaiting
from runyard.engine.presence import Presence, rss_mb
from runyard.engine.run import Phase, Run, RunRequest
from runyard.engine.store import recovery
from tests.integration.test_limits import Api, State, until
from tests.support.engine import engine
from tests.support.store import Bench
from tests.support.web import Web


def plain(api: Api) -> Any:
    """A graph of one node, without a policy of its own."""
    graph = StateGraph(State)
    graph.add_node("call", api)
    graph.add_edge(START, "call")
    graph.add_edge("call", END)
    return graph.compile()


async def test_no_more_runs_of_a_graph_are_in_hand_than_its_cap_and_the_rest_park(redis_url: str) -> None:
    api = Api(s=0.005)
    capped = {"concurrency": {"graphs": {"g": 3}}}
    async with engine(redis_url, {"g": plain(api), "free": plain(api)}, runyard=capped) as eng:
        for _ in range(20):
            eng.start("g", {"out": []})
        await eng.drive()
        assert (api.most, api.calls) == (3, 20)


async def test_a_parked_run_says_what_it_waits_for_and_another_graph_goes_on(redis_url: str) -> None:
    api = Api(gated=True)
    graphs = {"g": plain(api), "free": plain(Api())}
    async with engine(redis_url, graphs, runyard={"concurrency": {"graphs": {"g": 1}}}) as eng:
        eng.start("g", {"out": []})
        holding = asyncio.create_task(eng.carry_out(eng.wakes.popleft()))
        await until(lambda: api.inside == 1)
        second, other = eng.start("g", {"out": []}), eng.start("free", {"out": []})
        await eng.drive()
        parked = eng.service.get_run(second.run_id)
        assert (parked.phase, parked.status) == (Phase.PARKED, "running")
        assert [(entry["why"], entry["name"]) for entry in parked.waits_for] == [("graph", "g")]
        assert eng.service.get_run(other.run_id).phase is Phase.SUCCEEDED
        api.open.set()
        await holding
        await eng.worker.background.close()
        await eng.drive()
        assert eng.service.get_run(second.run_id).phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("configured", "word"),
    [([], "must be an object"), ({"tenant": 0}, "tenant"), ({"graphs": {"g": "x"}}, "graphs"), ({"graph": 1}, "graph")],
)
def test_a_cap_that_means_nothing_is_refused_by_field(configured: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        caps_of(configured)


def test_a_tenant_has_its_own_cap_or_everybodys() -> None:
    caps = caps_of({"tenant": 5, "tenants": {"acme": 50, "default": 7}})
    made = [caps.of(replace(_run(), tenant=tenant))[0][2].concurrency for tenant in ("acme", "zoo", "")]
    assert made == [50, 5, 7]


def _run() -> Run:
    return Run(
        run_id="r", thread_id="t", assistant_id="a", graph_id="g", phase=Phase.WAITING, queue="default",
        strategy="enqueue", created_at=0, updated_at=0, request=RunRequest(), metadata={},
    )  # fmt: skip


# --- admission


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, max_queue_age_s=30)
    yield made
    made.close()


def look_again(bench: Bench) -> Admission:
    return Admission(bench.store, bench.settings)


def test_work_is_refused_by_the_age_of_the_queue_not_by_its_length(bench: Bench) -> None:
    crowd = [bench.create() for _ in range(50)]
    look_again(bench).check(bench.keys, "")
    bench.backdate(bench.at.waiting, crowd[0].run_id, by_ms=60_000)
    with pytest.raises(Backlogged) as refused:
        look_again(bench).check(bench.keys, "")
    assert 25 <= refused.value.retry_after_s <= 40
    assert re.search(r"the oldest for 6\d s", str(refused.value))  # a slow machine takes a second from here to there
    for word in ("50 runs", "30 s"):
        assert word in str(refused.value)


def test_a_tenant_is_refused_for_its_own_runs_only(bench: Bench) -> None:
    late = bench.create(tenant="acme")
    line = bench.at.line("default", "acme")
    bench.client.zincrby(line, -60_000, late.run_id)
    with pytest.raises(TooManyWaiting):
        look_again(bench).check(bench.keys, "acme")
    look_again(bench).check(bench.keys, "zoo")


def test_so_many_may_wait_even_then(redis_url: str) -> None:
    bench = Bench(redis_url, max_queue_age_s=30, max_waiting=2)
    first = bench.create()
    bench.backdate(bench.at.waiting, first.run_id, by_ms=60_000)
    look_again(bench).check(bench.keys, "")
    bench.create()
    with pytest.raises(Backlogged):
        look_again(bench).check(bench.keys, "")
    bench.close()


@given(st.integers(0, 10**6), st.integers(1, 1000), st.integers(0, 10**6), st.floats(1, 1000))
def test_who_is_refused_is_told_a_time_that_is_neither_nothing_nor_for_ever(
    oldest_ms: int, waiting: int, moved_ms: int, most_age_s: float
) -> None:
    before = Look(2_000_000, waiting, oldest_ms)
    look = Look(2_001_000, waiting, oldest_ms + moved_ms)
    after = retry_after_s(before, look, most_age_s=most_age_s)
    assert 1 <= after <= 600
    assert is_full(look, most_age_s=look.age_s, most_waiting=0) is False


def test_a_queue_that_catches_up_is_worth_coming_back_to_sooner() -> None:
    look = Look(1_001_000, 10, 901_000)
    slow, fast = Look(1_000_000, 10, 899_500), Look(1_000_000, 10, 891_000)
    said = [retry_after_s(before, look, most_age_s=10) for before in (None, slow, fast)]
    assert said == [90, 180, 10]


def test_the_web_answers_503_with_the_time_to_wait(redis_url: str, tmp_path: Path) -> None:
    web = Web(redis_url, tmp_path, max_queue_age_s=5)
    service = web.app.extensions["runyard"].service
    thread = web.thread()
    run = web.run(thread).json
    at = service.keys.of_run(run["run_id"])
    service.store.client.zincrby(at.waiting, -20_000, run["run_id"])
    service.admission._seen.clear()  # the second that the last look holds has passed
    answer = web.run(web.thread())
    assert answer.status_code == 503
    assert 10 <= int(answer.headers["Retry-After"]) <= 20
    assert "runs wait" in answer.json["detail"]


# --- memory


def test_a_worker_says_when_it_uses_too_much_memory_to_take_a_run(bench: Bench) -> None:
    assert rss_mb() > 10
    said = {}
    for name, limit in (("small", rss_mb() * 10), ("large", 1)):
        presence = Presence(bench.store, bench.keys, name, "default", lambda: 0, memory_mb=limit)
        presence.beat()
        said[name] = (presence.is_full, bench.do(recovery.worker(bench.keys, name))["takes_work"])
    assert said == {"small": (False, "1"), "large": (True, "0")}


async def test_a_full_worker_passes_its_wake_ups_on(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "ROOM_WITHIN_S", 0.0)
    async with engine(redis_url, {"g": plain(Api())}) as eng:
        full = eng.make_worker("full")
        full.has_room = lambda: False
        run = eng.start("g", {"out": []})
        passed_on = await eng.carry_out(eng.wakes.popleft(), full)
        assert [wake.run_id for wake in passed_on] == [run.run_id]
        assert eng.service.get_run(run.run_id).phase is Phase.WAITING
        eng.wakes.extend(passed_on)
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
