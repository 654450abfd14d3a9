"""Circuits in the store: the scripts decide what the pure functions decide, for the whole fleet at once."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from langgraph.graph import END, START, StateGraph

from runyard.engine import breaker, wire
from runyard.engine.breaker import Circuit, Mode, Result, State
from runyard.engine.circuit_desk import CircuitDesk
from runyard.engine.errors import CircuitNotFound
from runyard.engine.run import Phase, Run
from runyard.engine.store import circuits as calls
from tests.support.engine import Engine, engine
from tests.support.store import Bench

CIRCUIT = Circuit("c", error_rate=0.5, quantile=0.9, min_calls=4, window_s=10, open_s=5, probes=2)
TOUCHY = {"name": "api", "min_calls": 2, "open_s": 30, "probes": 1}


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    yield made
    made.close()


def state_of(bench: Bench, name: str = "c") -> State:
    found: State = bench.do(calls.state(bench.keys, name)).get("state", State())
    return found


def age(client: Any, key: str, by_ms: int) -> None:
    """Let time pass for a circuit, by moving all its instants back."""

    def listed(field: str) -> list[list[Any]]:
        text = client.hget(key, field) or b""
        return orjson.loads(text) if text else []

    def text(items: list[list[Any]]) -> bytes:
        return orjson.dumps(items) if items else b""

    window = [[begins - by_ms, *rest] for begins, *rest in listed("window")]
    probes = [[caller, ends - by_ms] for caller, ends in listed("probes")]
    moved = {field: int(client.hget(key, field) or 0) - by_ms for field in ("since", "until")}
    client.hset(key, mapping={**moved, "window": text(window), "probes": text(probes)})


def without_since(state: State) -> State:
    """An instant that only people read."""
    return State(**{**{name: getattr(state, name) for name in State.__slots__}, "since": 0})


STORY = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "record", "record", "record", "force"]),
        st.integers(0, 5),
        st.sampled_from([*Result, Result.ERROR]),
        st.sampled_from([0, 0, 0, 900, 2_500, 6_000]),
        st.sampled_from([Mode.OPEN, Mode.CLOSED, None, None]),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STORY)
def test_in_every_story_the_scripts_decide_as_the_functions_do(bench: Bench, story: list[Any]) -> None:
    bench.client.flushall()
    under_way: dict[str, int] = {}
    for what, number, result, later, mode in story:
        caller = f"caller{number}"
        if bench.client.exists(bench.keys.circuit("c")):
            age(bench.client, bench.keys.circuit("c"), later)
        before = state_of(bench)
        if what == "admit":
            asked = bench.do(calls.admit(bench.keys, CIRCUIT, caller))
            wanted, admission = breaker.admit(CIRCUIT, before, caller, asked.now_ms)
            assert asked.admission == admission
            assert (asked.turned is not None) == (wanted.mode is not before.mode)
            if admission.may_call:
                under_way[caller] = admission.epoch
        elif what == "record":
            epoch = under_way.pop(caller, before.epoch)
            told = bench.do(calls.record(bench.keys, CIRCUIT, caller, epoch, result))
            wanted = breaker.record(CIRCUIT, before, caller, epoch, result, told.now_ms)
            assert (told.mode, told.epoch) == (wanted.mode, wanted.epoch)
            assert (told.turned is not None) == (wanted.mode is not before.mode)
        else:
            bench.do(calls.force(bench.keys, "c", mode, why="because", by="me"))
            wanted = breaker.force(before, mode, 0)
        assert without_since(state_of(bench)) == without_since(wanted)


def test_fifty_callers_at_once_are_given_as_many_trials_as_there_are(bench: Bench) -> None:
    for number in range(4):
        bench.do(calls.record(bench.keys, CIRCUIT, f"c{number}", 0, Result.ERROR))
    assert state_of(bench).mode is Mode.OPEN
    age(bench.client, bench.keys.circuit("c"), 5_000)

    async def race() -> list[Any]:
        async def ask(number: int) -> Any:
            return await asyncio.to_thread(bench.do, calls.admit(bench.keys, CIRCUIT, f"racer{number}"))

        return await asyncio.gather(*map(ask, range(50)))

    answers = asyncio.run(race())
    assert sum(asked.admission.may_call for asked in answers) == 2
    assert sum(asked.turned is not None for asked in answers) == 1, "one of them opened the door, and only one"


# --- nodes that are called through circuits


class Values(TypedDict, total=False):
    out: Annotated[list[Any], operator.add]


class Provider:
    def __init__(self) -> None:
        self.calls, self.error, self.takes_s = 0, True, 0.0

    async def __call__(self, _: Values) -> Values:
        self.calls += 1
        await asyncio.sleep(self.takes_s)
        if self.error:
            raise ConnectionError("down")
        return {"out": ["called"]}


def through(provider: Provider, **policy: Any) -> Any:
    graph = StateGraph(Values)
    graph.add_node("call", provider, metadata={"runyard": {"circuit": "api", **policy}})
    graph.add_edge(START, "call")
    graph.add_edge("call", END)
    return graph.compile()


CONFIGURED = {"circuits": {"api": {key: value for key, value in TOUCHY.items() if key != "name"}}}


async def opened(eng: Engine, graph_id: str = "g") -> list[Run]:
    return [await eng.run(graph_id, {"out": []}) for _ in range(2)]


def state_in(eng: Engine) -> State:
    found: State = eng.sync_store.do(calls.state(eng.keys, "api"))["state"]
    return found


def desk(eng: Engine) -> CircuitDesk:
    return CircuitDesk(eng.sync_store, eng.keys, eng.wakes.extend)


async def test_an_open_circuit_fails_at_once_and_its_change_is_told(redis_url: str) -> None:
    provider = Provider()
    async with engine(redis_url, {"g": through(provider)}, runyard=CONFIGURED) as eng:
        _, last = await opened(eng)
        refused = await eng.run("g", {"out": []})
        assert provider.calls == 2
        assert refused.error is not None
        assert refused.error["error"] == "CircuitOpen"
        told = [wire.decode(event.data) for event in eng.told(last) if event.name == "circuit"]
        assert [(one["circuit"], one["from"], one["to"]) for one in told] == [("api", "closed", "open")]
        shown = desk(eng).get("api")
        assert (shown["mode"], shown["history"][0]["why"]) == ("open", "2 of 2 calls failed")


async def test_the_state_is_the_fleets_and_survives_a_worker(redis_url: str) -> None:
    provider = Provider()
    async with engine(redis_url, {"g": through(provider)}, runyard=CONFIGURED) as eng:
        await opened(eng)
    async with engine(redis_url, {"g": through(provider)}, runyard=CONFIGURED) as eng:
        await eng.run("g", {"out": []})
        assert provider.calls == 2


async def test_a_fallback_takes_the_nodes_place_while_it_is_open(redis_url: str) -> None:
    provider = Provider()
    graph = through(provider, fallback={"value": {"out": ["kept"]}})
    async with engine(redis_url, {"g": graph}, runyard=CONFIGURED) as eng:
        await opened(eng)
        run = await eng.run("g", {"out": []})
        assert provider.calls == 2
        assert run.phase is Phase.SUCCEEDED
        assert [(one["error"], one["instead"]) for one in run.degraded] == [("CircuitOpen", "fallback")]


async def test_the_last_good_result_takes_the_nodes_place_while_it_is_open(redis_url: str) -> None:
    provider = Provider()
    provider.error = False
    async with engine(redis_url, {"g": through(provider, fallback={"stale": 60})}, runyard=CONFIGURED) as eng:
        good = await eng.run("g", {"out": []})
        provider.error = True
        await opened(eng)
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.SUCCEEDED
        assert [(one["error"], one["instead"]) for one in run.degraded] == [("CircuitOpen", "stale")]
        kept = [wire.decode(eng.service.get_thread(one.thread_id).values) for one in (good, run)]
        assert kept[0] == kept[1]


async def test_a_run_parks_until_the_circuit_tries_and_its_trial_wakes_the_others(redis_url: str) -> None:
    provider = Provider()
    graphs = {"g": through(provider), "patient": through(provider, when_open="park")}
    async with engine(redis_url, graphs, runyard=CONFIGURED) as eng:
        await opened(eng)
        waiting = [eng.start("patient", {"out": []}) for _ in range(3)]
        await eng.drive()
        runs = [eng.service.get_run(run.run_id) for run in waiting]
        assert [run.phase for run in runs] == [Phase.PARKED] * 3
        assert [(one["why"], one["name"]) for run in runs for one in run.waits_for] == [("circuit", "api")] * 3
        assert all(run.attempts == {} and run.due_at and run.due_at > run.updated_at + 25_000 for run in runs)
        provider.error = False
        age(eng.sync_store.client, eng.keys.circuit("api"), 30_000)
        at = eng.keys.of_run(waiting[0].run_id)
        eng.sync_store.client.zadd(at.due, {waiting[0].run_id: 0}, xx=True)
        eng.recovery.sweep()
        await eng.drive()
        assert {eng.service.get_run(run.run_id).phase for run in waiting} == {Phase.SUCCEEDED}
        assert provider.calls == 5
        changes = [(change["from"], change["to"]) for change in desk(eng).get("api")["history"]]
        assert changes == [("half_open", "closed"), ("open", "half_open"), ("closed", "open")]


async def test_calls_slower_than_their_sla_open_it(redis_url: str) -> None:
    provider = Provider()
    provider.error, provider.takes_s = False, 0.02
    async with engine(redis_url, {"g": through(provider, sla_ms=5)}, runyard=CONFIGURED) as eng:
        runs = await opened(eng)
        assert {run.phase for run in runs} == {Phase.SUCCEEDED}
        assert desk(eng).get("api")["why"] == "2 of 2 calls were slower than their SLA"


async def test_a_closed_circuit_costs_no_round_trip_of_its_own(redis_url: str) -> None:
    provider = Provider()
    provider.error = False
    async with engine(redis_url, {"g": through(provider)}, runyard=CONFIGURED) as eng:
        await eng.run("g", {"out": []})
        await eng.worker.background.close()
        circuit = eng.keys.circuit("api")
        eng.sync_store.client.hdel(circuit, "thresholds")  # whoever asks leaves them there
        eng.worker.circuits._closed["api"] = (0, float("inf"))  # the second in which its answer holds goes on
        await eng.run("g", {"out": []})
        await eng.worker.background.close()
        assert not eng.sync_store.client.hexists(circuit, "thresholds")
        assert sum(part[1] for part in state_in(eng).window) == 2, "both were counted"


async def test_an_operator_opens_closes_and_resets_it_with_a_reason(redis_url: str) -> None:
    provider = Provider()
    provider.error = False
    graphs = {"g": through(provider), "patient": through(provider, when_open="park")}
    async with engine(redis_url, graphs, runyard=CONFIGURED) as eng:
        await eng.run("g", {"out": []})
        kept = desk(eng).force("api", "open", why="they asked us to", by="ops")
        assert (kept["mode"], kept["forced"], kept["why"], kept["by"]) == ("open", True, "they asked us to", "ops")
        eng.worker.circuits.changed("api")  # what its lease keeper hears
        run = eng.start("patient", {"out": []})
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.PARKED
        assert desk(eng).get("api")["waiting"] == 1
        desk(eng).force("api", "auto", why="they are back", by="ops")
        assert len(eng.wakes) == 1
        await eng.drive()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
        with pytest.raises(CircuitNotFound):
            desk(eng).force("other", "open", why="?", by="ops")


async def test_a_circuit_that_nobody_defines_is_refused_by_name(redis_url: str) -> None:
    async with engine(redis_url, {"g": through(Provider())}) as eng:
        run = await eng.run("g", {"out": []})
        assert run.error is not None
        for word in ("'call'", "circuit", "'api'"):
            assert word in run.error["message"]
