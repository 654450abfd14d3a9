"""Limits of the fleet: exactly as many at once as there may be, in order, and a wait that holds nobody up."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send

from runyard.engine import gate, wire
from runyard.engine.errors import ConfigError
from runyard.engine.limits import Limit, limits_of
from runyard.engine.run import Phase, Run
from runyard.engine.store import limits as calls, runs
from tests.support.engine import Engine, engine
from tests.support.eventually import eventually_async
from tests.support.store import Bench

FIVE = {"api": {"concurrency": 5}}
ONE = {"api": {"concurrency": 1}}


class State(TypedDict, total=False):
    n: int
    out: Annotated[list[Any], operator.add]


class Api:
    """What the limit protects: counts who is in at once, and lets them out when told."""

    def __init__(self, *, s: float = 0.0, gated: bool = False) -> None:
        self.s, self.inside, self.most, self.calls = s, 0, 0, 0
        self.open = asyncio.Event()
        if not gated:
            self.open.set()

    async def __call__(self, _: State) -> State:
        self.inside += 1
        self.calls += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
            await asyncio.sleep(self.s)
        finally:
            self.inside -= 1
        return {"out": ["called"]}


def calling(api: Any, **how: Any) -> Any:
    """One node that needs a share of `api`."""
    graph = StateGraph(State)
    policy = {"limit": "api", **how.pop("policy", {})}
    graph.add_node("call", api, metadata={"runyard": policy}, **how)
    graph.add_edge(START, "call")
    graph.add_edge("call", END)
    return graph.compile()


def spreading(api: Any, beside: Any = None, **policy: Any) -> Any:
    """``n`` calls of `api` in one superstep, and something free beside them."""
    graph = StateGraph(State)
    graph.add_node("call", api, metadata={"runyard": {"limit": "api", **policy}})
    graph.add_node("free", beside or (lambda _: {"out": ["free"]}))
    graph.add_conditional_edges(START, lambda s: [Send("call", {}) for _ in range(s["n"])] + [Send("free", {})])
    graph.add_edge("call", END)
    graph.add_edge("free", END)
    return graph.compile()


@pytest.fixture
def short_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits parks soon, so that the tests need not wait a second for it."""
    monkeypatch.setattr(gate, "MOMENT_S", 0.1)


async def parked(eng: Engine, graph_id: str = "g", given: Any = None) -> Run:
    """A run that has parked because there is no share for it."""
    run = eng.start(graph_id, given or {"out": []})
    while eng.service.get_run(run.run_id).phase is not Phase.PARKED:
        wakes = [eng.wakes.popleft() for _ in range(len(eng.wakes))]
        for following in await asyncio.gather(*map(eng.carry_out, wakes)):
            eng.wakes.extend(following)
    return eng.service.get_run(run.run_id)


async def until(it_is_so: Callable[[], bool]) -> None:
    async def ask() -> bool:
        return it_is_so()

    await eventually_async(ask)


async def woken(eng: Engine) -> None:
    """Somebody has sent a wake-up."""
    await until(lambda: bool(eng.wakes))


def out_of(eng: Engine, run: Run) -> list[Any]:
    return wire.decode(eng.service.get_thread(run.thread_id).values)["out"]


async def test_a_hundred_runs_of_four_workers_use_the_five_shares_and_never_a_sixth(redis_url: str) -> None:
    api = Api(s=0.01)
    async with engine(redis_url, {"g": calling(api)}, runyard={"limits": FIVE}) as eng:
        workers = [eng.make_worker(f"w{number}") for number in range(4)]
        for _ in range(100):
            eng.start("g", {"out": []})
        wakes = [eng.wakes.popleft() for _ in range(100)]
        carried_out = [eng.carry_out(wake, workers[n % 4]) for n, wake in enumerate(wakes)]
        for following in await asyncio.gather(*carried_out):
            eng.wakes.extend(following)
        await eng.drive()
        assert api.calls == 100
        assert api.most == 5


async def test_the_tasks_of_one_superstep_take_turns_in_place(redis_url: str) -> None:
    api = Api(s=0.01)
    async with engine(redis_url, {"g": spreading(api)}, runyard={"limits": {"api": {"concurrency": 3}}}) as eng:
        run = await eng.run("g", {"n": 30, "out": []})
        assert run.phase is Phase.SUCCEEDED
        assert (api.most, api.calls) == (3, 30)
        assert run.slices == 1


async def test_a_run_without_a_share_parks_says_so_and_is_woken_by_who_gives_one_back(
    redis_url: str, short_moments: None
) -> None:
    api = Api(gated=True)
    async with engine(redis_url, {"g": calling(api)}, runyard={"limits": ONE}) as eng:
        first = eng.start("g", {"out": []})
        holding = asyncio.create_task(eng.carry_out(eng.wakes.popleft()))
        await until(lambda: api.inside == 1)
        second = await parked(eng)
        assert second.status == "running"
        assert [(entry["node"], entry["why"], entry["name"]) for entry in second.waits_for] == [
            ("call", "limit", "api")
        ]
        assert second.due_at is not None
        assert second.attempts == {}
        api.open.set()
        await holding
        await woken(eng)
        assert eng.service.get_run(second.run_id).phase is Phase.WAITING
        await eng.drive()
        assert [eng.service.get_run(run.run_id).phase for run in (first, second)] == [Phase.SUCCEEDED] * 2
        assert api.most == 1


async def test_siblings_of_a_parked_node_are_saved_and_not_run_again(redis_url: str, short_moments: None) -> None:
    api, beside = Api(gated=True), Api()
    graphs = {"g": calling(api), "wide": spreading(api, beside)}
    async with engine(redis_url, graphs, runyard={"limits": ONE}) as eng:
        eng.start("g", {"out": []})
        holding = asyncio.create_task(eng.carry_out(eng.wakes.popleft()))
        await until(lambda: api.inside == 1)
        run = await parked(eng, "wide", {"n": 2, "out": []})
        assert beside.calls == 1
        api.open.set()
        await holding
        await woken(eng)
        await eng.drive()
        assert sorted(out_of(eng, run)) == ["called", "called", "called"]
        assert (beside.calls, api.calls, api.most) == (1, 3, 1)


async def test_a_branch_parks_alone_and_is_woken_alone(redis_url: str, short_moments: None) -> None:
    api = Api(gated=True)
    graphs = {"g": calling(api), "wide": spreading(api, queue="elsewhere")}
    async with engine(redis_url, graphs, runyard={"limits": ONE}) as eng:
        eng.start("g", {"out": []})
        holding = asyncio.create_task(eng.carry_out(eng.wakes.popleft()))
        await until(lambda: api.inside == 1)
        run = eng.start("wide", {"n": 1, "out": []})
        await eng.drive()
        waiting = eng.service.get_run(run.run_id)
        assert waiting.phase is Phase.DISPATCHED
        assert [entry["node"] for entry in waiting.waits_for] == ["call"]
        api.open.set()
        await holding
        await woken(eng)
        assert eng.wakes[0].branch
        await eng.drive()
        ended = eng.service.get_run(run.run_id)
        assert (ended.phase, ended.waits_for) == (Phase.SUCCEEDED, [])


async def test_what_a_dead_worker_held_goes_to_who_waits(redis_url: str, short_moments: None) -> None:
    api = Api()
    async with engine(redis_url, {"g": calling(api)}, runyard={"limits": ONE}) as eng:
        limit = eng.worker.limits["api"]
        eng.sync_store.do(calls.take(eng.keys, limit, "dead/task", "dead/task#1", lease_ms=60_000, believed_ms=1))
        run = await parked(eng)
        eng.recovery.sweep()
        assert not eng.wakes, "nobody has died yet"
        eng.sync_store.client.zadd(eng.keys.limit_held("api"), {"dead/task#1": 1})
        eng.recovery.sweep()
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED


async def test_a_share_is_renewed_with_the_leases_and_ends_without_them(redis_url: str) -> None:
    api = Api(gated=True)
    async with engine(redis_url, {"g": calling(api)}, runyard={"limits": ONE}) as eng:
        eng.start("g", {"out": []})
        holding = asyncio.create_task(eng.carry_out(eng.wakes.popleft()))
        await until(lambda: api.inside == 1)
        held, client = eng.keys.limit_held("api"), eng.sync_store.client
        [(holder, ends)] = client.zrange(held, 0, -1, withscores=True)
        client.zadd(held, {holder: ends - 2_000})
        await asyncio.to_thread(eng.worker.keeper.renew)
        [(_, renewed)] = client.zrange(held, 0, -1, withscores=True)
        assert renewed >= ends
        api.open.set()
        await holding
        await eng.worker.background.close()
        assert client.zcard(held) == 0


async def test_what_the_provider_asks_for_holds_for_everybody(redis_url: str, short_moments: None) -> None:
    response = httpx.Response(429, headers={"retry-after": "120"}, request=httpx.Request("GET", "http://api"))
    refused = httpx.HTTPStatusError("slow down", request=response.request, response=response)

    async def refuse(_: State) -> State:
        raise refused

    patient = RetryPolicy(max_attempts=2, initial_interval=0.0, jitter=False)
    graphs = {"refused": calling(refuse, retry_policy=patient), "g": calling(Api())}
    async with engine(redis_url, graphs, runyard={"limits": FIVE}) as eng:
        eng.start("refused", {"out": []})
        await eng.drive()
        await eng.worker.background.close()
        other = await parked(eng)
        assert other.due_at is not None
        assert 100_000 < other.due_at - other.updated_at <= 125_000
        eng.recovery.sweep()
        assert not eng.wakes
        eng.sync_store.client.hset(eng.keys.limit("api"), "blocked_until", 1)
        eng.recovery.sweep()
        await eng.drive()
        assert eng.service.get_run(other.run_id).phase is Phase.SUCCEEDED


async def test_a_rate_lets_so_many_begin_and_then_makes_the_rest_wait_for_their_turn(
    redis_url: str, short_moments: None
) -> None:
    api = Api()
    async with engine(
        redis_url, {"g": calling(api)}, runyard={"limits": {"api": {"rate": "60/hour", "burst": 2}}}
    ) as eng:
        for _ in range(2):
            assert (await eng.run("g", {"out": []})).phase is Phase.SUCCEEDED
        third, fourth = await parked(eng), await parked(eng)
        assert third.due_at
        assert fourth.due_at
        assert 50_000 < third.due_at - third.updated_at <= 60_500
        assert 110_000 < fourth.due_at - fourth.updated_at <= 120_500
        limit = eng.keys.limit("api")
        eng.sync_store.client.hincrbyfloat(limit, "next_at", -60_000)
        eng.recovery.sweep()
        await eng.drive()
        phases = [eng.service.get_run(run.run_id).phase for run in (third, fourth)]
        assert phases == [Phase.SUCCEEDED, Phase.PARKED]
        assert api.calls == 3


async def test_the_share_of_a_parked_run_that_was_cancelled_goes_to_the_next(
    redis_url: str, short_moments: None
) -> None:
    api = Api(gated=True)
    async with engine(redis_url, {"g": calling(api)}, runyard={"limits": ONE}) as eng:
        eng.start("g", {"out": []})
        holding = asyncio.create_task(eng.carry_out(eng.wakes.popleft()))
        await until(lambda: api.inside == 1)
        second, third = await parked(eng), await parked(eng)
        eng.service.cancel_run(second)
        assert eng.service.get_run(second.run_id).phase is Phase.CANCELLED
        api.open.set()
        await holding
        await woken(eng)
        await eng.drive()
        assert eng.service.get_run(third.run_id).phase is Phase.SUCCEEDED
        assert eng.sync_store.client.zcard(eng.keys.limit_held("api")) == 0


async def test_room_that_comes_while_a_run_is_about_to_park_is_not_missed(redis_url: str) -> None:
    async with engine(redis_url, {"g": calling(Api())}, runyard={"limits": ONE}) as eng:
        run = eng.start("g", {"out": []})
        claim = eng.sync_store.do(runs.claim(eng.keys, run.run_id, owner="w", nonce="n", lease_ms=60_000))
        assert claim
        entry = {"task_id": "t", "node": "call", "why": "limit", "name": "api", "since": 1}
        assert eng.sync_store.do(runs.unpark(eng.keys, run.run_id)) == (True, "")
        call = runs.park(eng.keys, run.run_id, claim.fence, 60_000, [entry])
        assert eng.sync_store.do(call) == "waiting"
        assert eng.sync_store.do(call) == "waiting", "a lost reply can be asked for again"
        assert eng.service.get_run(run.run_id).phase is Phase.WAITING


async def test_a_node_that_names_an_unknown_limit_is_refused_by_name(redis_url: str) -> None:
    async with engine(redis_url, {"g": calling(Api())}, runyard={"limits": {"other": {"concurrency": 1}}}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.error is not None
        for word in ("'call'", "'g'", "limit", "'api'", "other"):
            assert word in run.error["message"]


# --- the queue itself


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    yield made
    made.close()


def take(bench: Bench, who: str, limit: Limit, **how: Any) -> calls.Taken:
    words = {"lease_ms": 60_000, "believed_ms": 60_000, **how}
    return bench.do(calls.take(bench.keys, limit, who, f"{who}#1", **words))


def test_shares_go_to_whoever_waits_longest_however_often_others_ask(bench: Bench) -> None:
    limit = Limit("api", concurrency=2)
    assert [take(bench, who, limit).has_share for who in "abcdef"] == [True, True, False, False, False, False]
    for who in "fedf":
        assert not take(bench, who, limit).has_share
    order = []
    for holder in "abcdef":
        given = bench.do(calls.give(bench.keys, "api", holder=f"{holder}#1"))
        order += [waiter for waiter, _ in given]
        for waiter, _ in given:
            assert take(bench, waiter, limit).has_share
        assert bench.client.zcard(bench.keys.limit_held("api")) <= 2
    assert order == ["c", "d", "e", "f"]


def test_asking_and_giving_back_twice_is_the_same_as_once(bench: Bench) -> None:
    limit = Limit("api", concurrency=1)
    assert take(bench, "a", limit).has_share
    assert take(bench, "a", limit).has_share
    assert not take(bench, "b", limit).has_share
    assert bench.do(calls.give(bench.keys, "api", holder="a#1")) == [("b", "")]
    assert bench.do(calls.give(bench.keys, "api", holder="a#1")) == []
    assert take(bench, "b", limit).has_share
    assert take(bench, "b", limit).has_share


def test_a_waiter_that_is_gone_holds_nobody_up(bench: Bench) -> None:
    limit = Limit("api", concurrency=1)
    take(bench, "a", limit)
    take(bench, "gone", limit)
    take(bench, "b", limit)
    bench.client.zadd(bench.keys.limit_seen("api"), {"gone": 1})
    assert bench.do(calls.give(bench.keys, "api", holder="a#1")) == [("b", "")]


def test_one_that_comes_too_late_for_its_share_stands_where_it_stood(bench: Bench) -> None:
    limit = Limit("api", concurrency=1)
    take(bench, "a", limit)
    take(bench, "late", limit, wake="run")
    take(bench, "b", limit)
    assert bench.do(calls.give(bench.keys, "api", holder="a#1")) == [("late", "run")]
    bench.client.zadd(bench.keys.limit_held("api"), {"late": 1})  # it did not come in time
    assert bench.do(calls.give(bench.keys, "api")) == [("b", "")]
    assert not take(bench, "late", limit).has_share
    take(bench, "c", limit)
    assert bench.do(calls.give(bench.keys, "api", holder="b", waiter="b")) == [("late", "")]


def test_a_sign_of_life_that_comes_late_does_not_end_the_place_of_one_that_has_parked(bench: Bench) -> None:
    limit, seen = Limit("api", concurrency=1), bench.keys.limit_seen("api")
    take(bench, "a", limit)
    take(bench, "parked", limit, believed_ms=600_000, wake="run")
    believed_until = bench.client.zscore(seen, "parked")
    bench.do(calls.renew(bench.keys, "api", [], ["parked"], lease_ms=1000))  # collected before it parked
    assert bench.client.zscore(seen, "parked") == believed_until
    take(bench, "waiting", limit, believed_ms=1)
    bench.do(calls.renew(bench.keys, "api", [], ["waiting"], lease_ms=60_000))
    assert bench.do(calls.give(bench.keys, "api", holder="a#1")) == [("parked", "run")]
    assert bench.do(calls.give(bench.keys, "api", waiter="parked")) == [("waiting", "")]


def test_a_parked_run_is_woken_again_once_when_who_was_to_wake_it_died(bench: Bench) -> None:
    limit, held = Limit("api", concurrency=1), bench.keys.limit_held("api")

    def recovered() -> list[tuple[str, str]]:
        """What recovery gives in two sweeps, after the time that a share is reserved."""
        for waiter, _ in bench.client.zrange(held, 0, -1, withscores=True):
            bench.client.zadd(held, {waiter: 1})
        return [given for _ in range(2) for given in bench.do(calls.give(bench.keys, "api"))]

    take(bench, "a", limit)
    take(bench, "unwoken", limit, wake="run")
    assert bench.do(calls.give(bench.keys, "api", holder="a#1")) == [("unwoken", "run")]  # its sender dies here
    assert recovered() == [("unwoken", "run")]
    assert recovered() == []  # it is not wanted any more: it may not keep the share from the others for ever
    assert take(bench, "b", limit).has_share
    assert not take(bench, "unwoken", limit, wake="run").has_share  # it parks anew
    assert bench.do(calls.give(bench.keys, "api", holder="b#1")) == [("unwoken", "run")]
    assert recovered() == [("unwoken", "run")]
    assert take(bench, "unwoken", limit).has_share
    assert bench.client.hkeys(bench.keys.limit_wakes("api")) == []


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        ([], ("must map names",)),
        ({"a b": {"concurrency": 1}}, ("'a b'", "letters")),
        ({"api": {}}, ("'api'", '"rate"')),
        ({"api": 5}, ("'api'", "must be an object")),
        ({"api": {"rate": "fast"}}, ("'api'", "rate", "60/minute", "'fast'")),
        ({"api": {"rate": "0/minute"}}, ("rate",)),
        ({"api": {"concurrency": True}}, ("concurrency", "whole number")),
        ({"api": {"burst": 2, "concurrency": 1}}, ("burst", "without a rate")),
        ({"api": {"concurency": 1}}, ("concurency", "not a field")),
    ],
)
def test_a_limit_that_means_nothing_is_refused_by_name_and_field(configured: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as raised:
        limits_of(configured)
    for word in words:
        assert word in str(raised.value)
