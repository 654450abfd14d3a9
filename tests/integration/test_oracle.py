"""The same graphs on plain LangGraph and on the engine: they must not be told apart.

Plain LangGraph in this process with its memory saver is the oracle. See tests/support/oracle.py for what is compared
and how little is normalised.
"""

from __future__ import annotations

import pytest

from tests.support.graphs import FAMILY, TAKEN_TWICE, Scenario
from tests.support.oracle import (
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
    return (scenario.spreads or not mode.elsewhere) and not (scenario.one_slice and mode != WHOLE)


def cases(*modes: Mode, faults: bool = False) -> list[object]:
    return [
        pytest.param(scenario, mode, id=f"{mode.name}-{scenario.name}")
        for scenario in FAMILY.values()
        for mode in modes
        if fits(scenario, mode) and not (faults and (scenario.no_faults or scenario.one_slice))
    ]


@pytest.mark.parametrize(("scenario", "mode"), cases(WHOLE, STEPWISE, SPREAD, BOTH))
async def test_the_engine_does_what_plain_langgraph_does(redis_url: str, scenario: Scenario, mode: Mode) -> None:
    assert not differences(await ask_oracle(scenario), await ask_engine(redis_url, scenario, mode))


@pytest.mark.parametrize("kind", ["kill", "kill after", "stall"])
@pytest.mark.parametrize("scenario", [case.values[0] for case in cases(WHOLE, faults=True)], ids=lambda case: case.name)  # type: ignore[attr-defined]
async def test_a_worker_that_dies_half_way_changes_nothing(redis_url: str, scenario: Scenario, kind: str) -> None:
    mode = BOTH if scenario.spreads else WHOLE
    expected, trips = await ask_oracle(scenario), await count_trips(redis_url, scenario, mode)
    found = await ask_engine(redis_url, scenario, mode, [Fault(kind, trips // 2)])
    assert not differences_after_a_fault(expected, found)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["kill", "kill after", "stall"])
@pytest.mark.parametrize(("scenario", "mode"), cases(WHOLE, STEPWISE, SPREAD, BOTH, faults=True))
async def test_no_point_to_die_at_changes_anything(redis_url: str, scenario: Scenario, mode: Mode, kind: str) -> None:
    expected, trips = await ask_oracle(scenario), await count_trips(redis_url, scenario, mode)
    for at in range(1, trips + 1):
        found = await ask_engine(redis_url, scenario, mode, [Fault(kind, at)])
        assert not differences_after_a_fault(expected, found), f"{kind} at round trip {at} of {trips}"


@pytest.mark.xfail(reason=TAKEN_TWICE, strict=True)
async def test_an_answer_is_taken_once_wherever_the_worker_dies(redis_url: str) -> None:
    scenario = FAMILY["one_node_asks_twice"]
    expected, trips = await ask_oracle(scenario), await count_trips(redis_url, scenario, WHOLE)
    for at in range(1, trips + 1):
        found = await ask_engine(redis_url, scenario, WHOLE, [Fault("kill", at)])
        assert not differences_after_a_fault(expected, found), f"killed at round trip {at} of {trips}"
