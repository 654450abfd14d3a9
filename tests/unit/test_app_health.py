"""Ready means that runs are taken, not that processes exist."""

from __future__ import annotations

from typing import Any

from runyard.app.health import of_workers

NOW_MS = 1_000_000_000


def worker(**facts: Any) -> dict[str, str]:
    known = {"id": "host:1", "queues": "default,cpu", "in_hand": 0, "took_at": NOW_MS - 1_000, "started_at": 0}
    return {name: str(value) for name, value in {**known, **facts}.items()}


def problems(*workers: dict[str, str], waited_ms: int = 0) -> list[str]:
    return of_workers(list(workers), "default", waited_ms, 10, NOW_MS)


def test_a_worker_and_nothing_that_waits_is_ready() -> None:
    assert problems(worker()) == []


def test_without_a_worker_of_the_queue_nothing_is_ready() -> None:
    assert problems() == ["No worker serves the queue 'default'."]
    assert problems(worker(queues="cpu")) == ["No worker serves the queue 'default'."]


def test_a_backlog_that_is_being_worked_on_is_no_fault() -> None:
    assert problems(worker(), waited_ms=60_000) == []


def test_a_full_worker_is_busy_and_not_deaf() -> None:
    assert problems(worker(in_hand=10, took_at=NOW_MS - 60_000), waited_ms=60_000) == []


def test_a_worker_says_itself_how_much_it_can_have_in_hand() -> None:
    busy = worker(in_hand=1, capacity=1, took_at=NOW_MS - 60_000)
    assert problems(busy, waited_ms=60_000) == []
    assert problems(worker(in_hand=1, capacity=5, took_at=NOW_MS - 60_000), waited_ms=60_000) != []


def test_a_worker_with_room_that_takes_nothing_is_named() -> None:
    [problem] = problems(worker(took_at=NOW_MS - 30_000), waited_ms=30_000)
    assert problem == "A run has waited for 30 s; no worker takes anything though it has room: host:1."


def test_a_worker_that_has_just_started_is_given_time() -> None:
    assert problems(worker(took_at=0, started_at=NOW_MS - 2_000), waited_ms=30_000) == []


def test_one_worker_that_hears_is_enough() -> None:
    assert problems(worker(took_at=0), worker(id="host:2"), waited_ms=30_000) == []
