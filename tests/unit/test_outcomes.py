"""What people who look at the queue read: every outcome has words, and a failure names node, attempt and error."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from runyard.engine.ids import new_run_id
from runyard.engine.outcomes import branch_in_words, failure_in_words, in_words
from runyard.engine.run import (
    Advanced,
    Branch,
    Cancelled,
    Dispatched,
    Failed,
    Finished,
    Interrupted,
    Parked,
    Phase,
    RetryLater,
    Run,
    RunRequest,
    TimedOut,
)
from runyard.tasks.runs import Told
from runyard.tasks.wake import RunFailed

PARKED = Parked(5.0, ({"node": "search", "name": "web limit", "why": "limit"},))
ERROR = {"error": "ValueError", "message": "no sk-planted1234567890abcd", "node": "search", "attempt": 3}


def a_run() -> Run:
    return Run(
        run_id=new_run_id(1), thread_id="t", assistant_id="a", graph_id="g", phase=Phase.LEASED, queue="q",
        strategy="enqueue", created_at=0, updated_at=0, request=RunRequest(), metadata={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Finished({}), "finished"),
        (Interrupted({}, {"t": []}), "waits for a person"),
        (Interrupted({}, {}), "stopped at a breakpoint"),
        (Advanced(), "goes on in another slice"),
        (Dispatched((Branch("b0", "q", ("t",), ("search",)),)), "spread over 1 branches: search"),
        (RetryLater(2.0), "tries again in 2.0 s"),
        (RetryLater(2.0, (("search", 2),)), "tries again in 2.0 s: search, attempt 2"),
        (PARKED, "parked: search, for web limit"),
        (Cancelled("interrupt"), "cancelled"),
    ],
)
def test_what_is_no_failure_is_a_task_that_succeeded(outcome: Any, words: str) -> None:
    run = a_run()
    told = Told(run.run_id)
    told(run, outcome)
    assert repr(told.result()) == words == in_words(outcome)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Failed(ERROR), "search, attempt 3: ValueError: no [redacted]"),
        ({"error": ERROR}, "search, attempt 3: ValueError: no [redacted]"),
        (Failed({"error": "Quarantined", "message": "m"}), "Quarantined: m"),
        (TimedOut(), "the run took longer than it was allowed to"),
    ],
)
def test_a_run_that_failed_for_good_is_a_task_that_failed(outcome: Any, words: str) -> None:
    run = a_run()
    told = Told(run.run_id)
    told(run, outcome)
    with pytest.raises(RunFailed) as raised:
        told.result()
    assert repr(pickle.loads(pickle.dumps(raised.value))) == words  # noqa: S301 - as a prefork child sends it


def test_a_wake_up_that_took_up_another_run_says_which() -> None:
    run = a_run()
    told = Told("other")
    assert repr(told.result()) == "nothing to do"
    told(run, Finished({}))
    assert repr(told.result()) == f"finished (run {run.run_id})"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "done"),
        (PARKED, "parked: search, for web limit"),
        ({"retry_at": 1}, "tries again later"),
        ({"interrupted": ["t"]}, "waits for a person"),
        ("returned", "given back"),
    ],
)
def test_branches_say_what_came_of_them(result: Any, words: str) -> None:
    assert failure_in_words(result) is None
    assert branch_in_words(result) == words
