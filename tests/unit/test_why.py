"""An explanation can be made of a run in any phase, whatever else is known of it."""

from __future__ import annotations

import dataclasses

import pytest

from runyard.app.cli import COMMANDS
from runyard.engine.run import Phase, Run, RunRequest
from runyard.engine.why import MOST, cost_of, duration, explain

RUN = Run(
    run_id="01a202f9-f2a6-700d-9b99-aa038e596e06", thread_id="t", assistant_id="a", graph_id="g", phase=Phase.WAITING,
    queue="default", strategy="enqueue", created_at=1_000, updated_at=2_000, request=RunRequest(), metadata={},
)  # fmt: skip


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(
    "error", [None, {"error": "Quarantined", "message": "m"}, {"error": "E", "message": "m", "node": "n"}]
)
def test_every_phase_is_explained_with_commands_that_exist(phase: Phase, error: dict[str, str] | None) -> None:
    run = dataclasses.replace(RUN, phase=phase, error=error, started_at=1_500, ended_at=3_000)
    told = explain(run, [], [], [], now_ms=4_000).told(run)
    assert told["headline"].endswith((".", "m", ": "))
    assert "{" not in told["text"]
    assert told["next"]
    for step in told["next"]:
        assert step["command"].split()[1] in COMMANDS


def test_a_long_story_is_cut_and_says_so() -> None:
    failed = [
        {"node": "n", "attempt": number, "error": "E", "message": "m", "started_at": number, "duration_ms": 5,
         "decision": "again in 1.0 s"}
        for number in range(1, 101)
    ]  # fmt: skip
    told = explain(RUN, failed, [], [], now_ms=4_000)
    assert len(told.attempts) == MOST + 1
    assert told.attempts[0] == f"… {100 - MOST} before these"
    assert told.attempts[-1].startswith("n, attempt 100: failed after 5 ms with E: m")


def test_a_quarantined_run_says_which_node_its_workers_died_at() -> None:
    run = dataclasses.replace(RUN, phase=Phase.FAILED, error={"error": "Quarantined", "message": "m"}, crashes=3)
    lost = {"kind": "attempt", "status": "lost", "node": "poison", "step": 1, "attempt": 1, "error": "its worker died",
            "decision": "again", "timestamp": 1, "latency_ms": None}  # fmt: skip
    told = explain(run, [], [lost, lost], [], now_ms=4_000)
    assert told.headline.startswith("It was quarantined: 3 workers died, or lost touch, with it in hand")
    assert "It was at node poison when they did: look at what that does to its process." in told.story[1]
    assert "Look at what its next node does to its process." in explain(run, [], [], [], now_ms=4_000).story[0]


@pytest.mark.parametrize(
    ("why", "name", "said", "command"),
    [
        ("limit", "serp", "node search has waited 9.0 s for a share of limit 'serp'", "status"),
        ("circuit", "openai", "node search has waited 9.0 s for circuit 'openai' to close", "circuits"),
        ("exhausted", "E: m", "for an operator: its attempts are used up (E: m)", "dead-letters"),
    ],
)
def test_a_parked_run_says_what_it_waits_for_and_what_can_be_done(why: str, name: str, said: str, command: str) -> None:
    part = {"task_id": "t", "node": "search", "why": why, "name": name, "since": 1_000}
    run = dataclasses.replace(RUN, phase=Phase.PARKED, parked=[part])
    told = explain(run, [], [], [], now_ms=10_000).told(run)
    assert said in told["headline"]
    assert told["next"][0]["command"].split()[1] == command


def test_a_run_that_is_not_over_has_taken_until_now() -> None:
    run = dataclasses.replace(RUN, phase=Phase.LEASED, started_at=1_500)
    assert cost_of(run, [], now_ms=61_500)["took_ms"] == 60_000


def test_costs_of_models_add_up_and_those_without_a_price_are_counted_in_tokens() -> None:
    def call(model: str, cost: float | None) -> dict[str, object]:
        used = {"in": 10, "out": 5, "by_model": {model: {"in": 10, "out": 5}}}
        return {"kind": "model", "status": "ok", "tokens_used": used, "cost": cost, "node": "n"}

    cost = cost_of(RUN, [call("a", 0.5), call("a", 0.25), call("b", None)], 4_000)
    assert (cost["model_calls"], cost["cost"]) == (3, 0.75)
    assert cost["tokens_used"] == {
        "in": 30, "out": 15, "by_model": {"a": {"in": 20, "out": 10}, "b": {"in": 10, "out": 5}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ms", "said"),
    [(3, "3 ms"), (1500, "1.5 s"), (90_000, "90.0 s"), (180_000, "3 min"), (7_200_000, "2 h"), (200_000_000, "2 d")],
)
def test_spans_of_time_are_said_as_people_do(ms: int, said: str) -> None:
    assert duration(ms) == said
