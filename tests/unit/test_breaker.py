"""When a circuit opens and closes: stories made up over time, and what must be so after every step of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from runyard.engine.breaker import Circuit, Mode, Result, State, admit, circuits_of, force, record
from runyard.engine.errors import ConfigError

CIRCUIT = Circuit("c", error_rate=0.5, quantile=0.9, min_calls=4, window_s=10, open_s=5, probes=2)
START = 1_000_000


def called(state: State, results: list[Result], *, at: int = START) -> State:
    for number, result in enumerate(results):
        state, admitted = admit(CIRCUIT, state, f"caller{number}", at)
        assert admitted.may_call
        state = record(CIRCUIT, state, f"caller{number}", admitted.epoch, result, at)
        if state.mode is Mode.OPEN:
            break
    return state


OK, ERROR, SLOW, VOID = Result.OK, Result.ERROR, Result.SLOW, Result.VOID


def test_it_opens_when_so_many_calls_failed_and_not_before_there_were_enough() -> None:
    assert called(State(), [ERROR] * 3).mode is Mode.CLOSED
    assert called(State(), [ERROR] * 4).mode is Mode.OPEN
    assert called(State(), [OK, OK, OK, ERROR]).mode is Mode.CLOSED
    assert called(State(), [OK, OK, ERROR, ERROR]).mode is Mode.OPEN


def test_it_opens_when_the_quantile_of_the_latency_is_above_the_sla() -> None:
    assert called(State(), [OK] * 9 + [SLOW]).mode is Mode.CLOSED, "the 90th percentile of ten is the ninth"
    assert called(State(), [OK] * 8 + [SLOW, SLOW]).mode is Mode.OPEN


def test_what_is_older_than_the_window_does_not_count() -> None:
    state = called(State(), [ERROR] * 3)
    assert called(state, [ERROR], at=START + 11_000).mode is Mode.CLOSED
    assert called(state, [ERROR], at=START + 8_000).mode is Mode.OPEN


def test_calls_that_say_nothing_are_not_counted() -> None:
    assert called(State(), [VOID] * 50 + [ERROR] * 3).mode is Mode.CLOSED


def opened() -> State:
    return called(State(), [ERROR] * 4)


def test_open_it_says_how_long_to_wait_and_then_lets_so_many_try() -> None:
    state = opened()
    state, refused = admit(CIRCUIT, state, "a", START + 2_000)
    assert (refused.may_call, refused.wait_ms) == (False, 3_000)
    state, first = admit(CIRCUIT, state, "a", START + 5_000)
    state, again = admit(CIRCUIT, state, "a", START + 5_000)
    state, second = admit(CIRCUIT, state, "b", START + 5_000)
    state, third = admit(CIRCUIT, state, "c", START + 5_000)
    assert [one.may_call for one in (first, again, second, third)] == [True, True, True, False]
    state = record(CIRCUIT, state, "a", first.epoch, OK, START + 5_100)
    assert state.mode is Mode.HALF_OPEN
    assert not admit(CIRCUIT, state, "c", START + 5_100)[1].may_call
    state = record(CIRCUIT, state, "b", second.epoch, OK, START + 5_200)
    assert state.mode is Mode.CLOSED


@pytest.mark.parametrize("result", [ERROR, SLOW])
def test_one_trial_that_does_not_go_well_opens_it_again(result: Result) -> None:
    state, admitted = admit(CIRCUIT, opened(), "a", START + 5_000)
    state = record(CIRCUIT, state, "a", admitted.epoch, result, START + 6_000)
    assert (state.mode, state.until) == (Mode.OPEN, START + 11_000)


def test_the_place_of_one_that_died_while_it_tried_goes_to_another() -> None:
    state, dead = admit(CIRCUIT, opened(), "dead", START + 5_000)
    state, _ = admit(CIRCUIT, state, "b", START + 5_000)
    state, taken = admit(CIRCUIT, state, "c", START + 10_001)
    assert taken.probe
    assert record(CIRCUIT, state, "dead", dead.epoch, ERROR, START + 10_002) == state, "its word came too late"


def test_what_was_admitted_in_another_epoch_says_nothing() -> None:
    state = opened()
    assert record(CIRCUIT, state, "late", 0, OK, START) == state
    state, _ = admit(CIRCUIT, state, "a", START + 5_000)
    assert record(CIRCUIT, state, "late", 0, ERROR, START + 5_001) == state


def test_an_operator_overrules_it_until_it_is_left_to_itself() -> None:
    kept = force(State(), Mode.OPEN, START)
    assert not admit(CIRCUIT, kept, "a", START + 10**9)[1].may_call
    closed = force(kept, Mode.CLOSED, START)
    assert called(closed, [ERROR] * 100) == closed
    assert force(closed, None, START) == State(Mode.CLOSED, closed.epoch + 1, START)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "record", "record", "force"]),
        st.integers(0, 7),
        st.sampled_from(list(Result)),
        st.integers(0, 4_000),
        st.sampled_from([Mode.OPEN, Mode.CLOSED, None]),
    ),
    max_size=120,
)


@given(STEPS)
def test_in_every_story_the_rules_hold_after_every_step(steps: list[Any]) -> None:
    state, now = State(), START
    under_way: dict[str, int] = {}
    for what, number, result, later, mode in steps:
        now += later
        caller, before = f"caller{number}", state
        if what == "admit":
            state, admitted = admit(CIRCUIT, state, caller, now)
            if admitted.may_call:
                under_way[caller] = admitted.epoch
            assert admitted.probe == (state.mode is Mode.HALF_OPEN and admitted.may_call)
            assert admitted.may_call or admitted.wait_ms > 0 or state.forced
            if before.mode is Mode.OPEN and not before.forced:
                assert admitted.may_call == (now >= before.until)
        elif what == "record":
            state = record(CIRCUIT, state, caller, under_way.pop(caller, 0), result, now)
        else:
            state = force(state, mode, now)
        assert len(state.probes) + state.passed <= CIRCUIT.probes
        assert state.mode is Mode.HALF_OPEN or not state.probes
        assert (state.epoch > before.epoch) == (state.mode != before.mode or what == "force")
        if what == "record" and state != before:  # one that came too late to count leaves the window as it was
            assert all(now - CIRCUIT.window_ms - 1_000 < part[0] <= now for part in state.window[-1:])
        assert len(state.window) <= 11
        assert state.mode is not Mode.OPEN or state.forced or state.until <= now + CIRCUIT.open_ms


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        ([], ("must map names",)),
        ({"api": 3}, ("'api'", "must be an object")),
        ({"api": {"error_rate": 0}}, ("'api'", "error_rate", "above 0")),
        ({"api": {"quantile": 1}}, ("quantile", "below 1")),
        ({"api": {"min_calls": 1.5}}, ("min_calls", "whole number")),
        ({"api": {"window_s": 0}}, ("window_s", "seconds")),
        ({"api": {"probes": 0}}, ("probes",)),
        ({"api": {"threshold": 1}}, ("threshold", "not a field")),
        ({"a{b": {}}, ("name", "letters")),
    ],
)
def test_a_circuit_that_means_nothing_is_refused_by_name_and_field(configured: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as raised:
        circuits_of(configured)
    for word in words:
        assert word in str(raised.value)
