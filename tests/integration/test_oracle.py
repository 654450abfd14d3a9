"""The same graphs on plain LangGraph and on the engine: they must not be told apart.

Plain LangGraph in this process with its memory saver is the oracle. See tests/support/oracle.py for what is compared
and how little is normalised.
"""

from __future__ import annotations

import pytest

from tests.support.graphs import FAMILY
from tests.support.oracle import Mode, ask_engine, ask_oracle, differences

MODES = [
    Mode("whole"),
    Mode("stepwise", quantum_s=0),
    Mode("spread", elsewhere="cpu"),
    Mode("spread stepwise", quantum_s=0, elsewhere="cpu"),
]
CASES = [
    pytest.param(scenario, mode, id=f"{mode.name}-{scenario.name}")
    for scenario in FAMILY.values()
    for mode in MODES
    if (scenario.spreads or not mode.elsewhere) and not (scenario.one_slice and mode.name != "whole")
]


@pytest.mark.parametrize(("scenario", "mode"), CASES)
async def test_the_engine_does_what_plain_langgraph_does(redis_url, scenario, mode) -> None:
    expected = await ask_oracle(scenario)
    found = await ask_engine(redis_url, scenario, mode)
    assert not differences(expected, found)
