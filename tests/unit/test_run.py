"""The vocabulary of runs: one table, and all that is derived from it."""

from __future__ import annotations

from typing import get_args

import pytest

from runyard.engine.run import (
    ACTIVE,
    LEASED,
    TERMINAL,
    THREAD_AFTER,
    TRANSITIONS,
    Phase,
    RunStatus,
    ThreadStatus,
    Verb,
    status_of,
)


def test_every_verb_has_a_line_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Verb)
    assert all(sources for sources, _ in TRANSITIONS.values())


def test_a_phase_is_either_active_or_final() -> None:
    assert set(Phase) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert {Phase.SUCCEEDED, Phase.PAUSED, Phase.FAILED, Phase.TIMED_OUT, Phase.CANCELLED} == TERMINAL


def test_only_an_operators_hand_leads_out_of_a_final_phase() -> None:
    assert {verb for verb, (sources, _) in TRANSITIONS.items() if TERMINAL & sources} == {Verb.REVIVE}


def test_from_every_active_phase_a_run_can_be_cancelled_and_can_succeed() -> None:
    assert TRANSITIONS[Verb.CANCEL][0] == ACTIVE
    for phase in ACTIVE:
        reached = {phase}
        while more := {then for sources, then in TRANSITIONS.values() if sources & reached} - reached:
            reached |= more
        assert Phase.SUCCEEDED in reached, phase


def test_every_phase_but_the_first_ones_is_led_to_by_some_verb() -> None:
    led_to = {then for _, then in TRANSITIONS.values()}
    assert set(Phase) - led_to == {Phase.QUEUED}  # with DUE and WAITING, those a run is made in


def test_a_worker_holds_the_lease_in_exactly_the_phases_that_are_taken_back() -> None:
    assert {Phase.LEASED, Phase.CANCELLING} == LEASED


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("started", [True, False])
def test_clients_are_shown_only_langgraphs_words(phase: Phase, started: bool) -> None:
    status = status_of(phase, started=started)
    assert status in get_args(RunStatus)
    if phase in ACTIVE:
        assert status == ("running" if started else "pending")
    else:
        assert status not in ("pending", "running")
        assert THREAD_AFTER[phase] in get_args(ThreadStatus)
        assert THREAD_AFTER[phase] != "busy"


def test_every_final_phase_says_what_it_leaves_the_thread_as() -> None:
    assert set(THREAD_AFTER) == TERMINAL
