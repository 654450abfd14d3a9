"""The same graphs on plain LangGraph and on the engine: they must not be told apart.

Plain LangGraph in this process with its memory saver is the oracle. See tests/support/oracle.py for what is compared
and how little is normalised.
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from tests.support.graphs import FAMILY, Scenario, Shape, Stop
from tests.support.oracle import (
    Account,
    Fault,
    Mode,
    ask_engine,
    ask_oracle,
    count_trips,
    differences,
    differences_after_a_fault,
)

WHOLE, STEPWISE = Mode("whole"), Mode("stepwise", quantum_s=0)
SPREAD, BOTH = Mode("spread", elsewhere="cpu"), Mode("spread stepwise", quantum_s=0, elsewhere="cpu")


def fits(scenario: Scenario, mode: Mode) -> bool:
    return scenario.spreads or not mode.elsewhere


def cases(*modes: Mode, faults: bool = False) -> list[object]:
    return [
        pytest.param(scenario, mode, id=f"{mode.name}-{scenario.name}")
        for scenario in FAMILY.values()
        for mode in modes
        if fits(scenario, mode) and not (faults and scenario.no_faults)
    ]


class Known:
    """What does not change from test to test: the oracle's account of a scenario, and how many round trips it takes."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._trips: dict[tuple[str, str], int] = {}

    async def account(self, scenario: Scenario) -> Account:
        if scenario.name not in self._accounts:
            self._accounts[scenario.name] = await ask_oracle(scenario)
        return self._accounts[scenario.name]

    async def trips(self, redis_url: str, scenario: Scenario, mode: Mode) -> int:
        place = (scenario.name, mode.name)
        if place not in self._trips:
            self._trips[place] = await count_trips(redis_url, scenario, mode)
        return self._trips[place]


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.mark.parametrize(("scenario", "mode"), cases(WHOLE, STEPWISE, SPREAD, BOTH))
async def test_the_engine_does_what_plain_langgraph_does(
    redis_url: str, known: Known, scenario: Scenario, mode: Mode
) -> None:
    assert not differences(await known.account(scenario), await ask_engine(redis_url, scenario, mode))


@pytest.mark.parametrize("kind", ["kill", "kill after", "stall"])
@pytest.mark.parametrize("scenario", [case.values[0] for case in cases(WHOLE, faults=True)], ids=lambda case: case.name)  # type: ignore[attr-defined]
async def test_a_worker_that_dies_half_way_changes_nothing(
    redis_url: str, known: Known, scenario: Scenario, kind: str
) -> None:
    mode = BOTH if scenario.spreads else WHOLE
    expected, trips = await known.account(scenario), await known.trips(redis_url, scenario, mode)
    fault = Fault(kind, trips // 2)
    found = await ask_engine(redis_url, scenario, mode, [fault])
    assert fault.happened
    assert not differences_after_a_fault(expected, found)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["kill", "kill after", "stall"])
@pytest.mark.parametrize(("scenario", "mode"), cases(WHOLE, STEPWISE, SPREAD, BOTH, faults=True))
async def test_no_point_to_die_at_changes_anything(
    redis_url: str, known: Known, scenario: Scenario, mode: Mode, kind: str
) -> None:
    expected, trips = await known.account(scenario), await known.trips(redis_url, scenario, mode)
    for at in range(1, trips + 1):
        found = await ask_engine(redis_url, scenario, mode, [Fault(kind, at)])
        assert not differences_after_a_fault(expected, found), f"{kind} at round trip {at} of {trips}"


@pytest.mark.parametrize("name", ["one_node_asks_twice", "a_subgraph_asks_again_and_again"])
async def test_an_answer_is_taken_once_wherever_the_worker_dies(redis_url: str, known: Known, name: str) -> None:
    """LangGraph forgets a taken answer in its memory only; a worker that takes over must not find it again."""
    scenario = FAMILY[name]
    expected, trips = await known.account(scenario), await known.trips(redis_url, scenario, WHOLE)
    for at in range(1, trips + 1):
        found = await ask_engine(redis_url, scenario, WHOLE, [Fault("kill", at)])
        assert not differences_after_a_fault(expected, found), f"killed at round trip {at} of {trips}"


STOPS = st.builds(
    Stop,
    st.sampled_from(["plain", "plain", "sync", "fan", "ask", "silent", "sub"]),
    st.sampled_from([None, None, "cpu", "gpu"]),
)
LAYERS = st.lists(st.lists(STOPS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(tuple)
SHAPES = LAYERS.flatmap(
    lambda layers: st.builds(
        Shape,
        st.just(layers),
        st.lists(st.booleans(), min_size=len(layers), max_size=len(layers)).map(tuple),
        st.integers(1, 3),
    )
)
FAULTS = st.lists(
    st.builds(Fault, st.sampled_from(["kill", "kill after", "stall"]), st.integers(1, 25)), min_size=0, max_size=2
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@pytest.mark.timeout(300)
@given(shape=SHAPES, quantum_s=st.sampled_from([0.0, 30.0]), faults=FAULTS)
def test_no_shape_placement_quantum_or_crash_changes_what_a_graph_does(
    redis_url: str, shape: Shape, quantum_s: float, faults: list[Fault]
) -> None:
    scenario = Scenario("generated", shape.build, shape.script, spreads=True)
    mode = Mode("generated", quantum_s=quantum_s, elsewhere="cpu")

    async def compare() -> str:
        fresh = [Fault(fault.kind, fault.at) for fault in faults]
        expected, found = await ask_oracle(scenario), await ask_engine(redis_url, scenario, mode, fresh)
        return differences_after_a_fault(expected, found) if faults else differences(expected, found)

    assert not asyncio.run(compare())
