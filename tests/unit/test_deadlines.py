"""Many deadlines, one timer: what is not taken off in time is told, once, and when its time has come."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import pytest

from runyard.engine.deadlines import Deadlines, TimeLimit
from tests.support.eventually import eventually_async

T = TypeVar("T")


async def is_told(told: list[T], count: int) -> list[T]:
    async def enough() -> bool:
        return len(told) >= count

    await eventually_async(enough, interval_s=0.002)
    return told


async def test_what_is_over_is_told_in_the_order_of_its_end_and_what_was_taken_off_is_not() -> None:
    told: list[str] = []
    deadlines = Deadlines(told.append)
    for name, within_s in {"third": 0.06, "first": 0.01, "gone": 0.02, "second": 0.03, "kept": 3600.0}.items():
        deadlines.add(name, within_s)
    deadlines.remove("gone")
    assert await is_told(told, 3) == ["first", "second", "third"]
    assert len(deadlines) == 1


async def test_none_is_told_before_its_time() -> None:
    loop, told = asyncio.get_running_loop(), list[tuple[int, float]]()
    deadlines: Deadlines[int] = Deadlines(lambda number: told.append((number, loop.time())))
    began = loop.time()
    for number in range(20):
        deadlines.add(number, 0.002 * (20 - number))
    await is_told(told, 20)
    assert all(at - began >= 0.002 * (20 - number) - 0.001 for number, at in told)


async def test_one_that_is_over_already_is_told_soon_and_one_that_comes_after_the_last_ring_as_well() -> None:
    told: list[str] = []
    deadlines = Deadlines(told.append)
    deadlines.add("late", 0.0)
    assert await is_told(told, 1) == ["late"]
    deadlines.add("later", 0.01)
    assert await is_told(told, 2) == ["late", "later"]


async def test_thousands_that_are_kept_take_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), list[Any]()
    plain = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda *what, **more: timers.append(plain(*what, **more)) or timers[-1])
    deadlines: Deadlines[int] = Deadlines(lambda _: None)
    for number in range(5_000):
        deadlines.add(number, 3600.0 + number)
        deadlines.remove(number - 100)
    assert (len(timers), len(deadlines)) == (1, 100)
    timers[0].cancel()


async def test_a_block_that_takes_too_long_is_cut_off_with_a_timeout() -> None:
    ends = Deadlines(TimeLimit.passed)
    limit = TimeLimit(ends, 0.01)
    with pytest.raises(TimeoutError), limit:
        await asyncio.Event().wait()
    assert limit.expired
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_block_that_ends_in_time_raises_what_it_raises_and_leaves_no_deadline() -> None:
    ends = Deadlines(TimeLimit.passed)
    limit = TimeLimit(ends, 3600.0)
    with pytest.raises(TimeoutError, match="of its own"), limit:
        raise TimeoutError("of its own")
    assert not limit.expired
    assert len(ends) == 0


async def test_a_block_that_others_have_cancelled_as_well_stays_cancelled() -> None:
    ends = Deadlines(TimeLimit.passed)
    limit, entered = TimeLimit(ends, 0.0), asyncio.Event()

    async def work() -> None:
        with limit:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    limit.passed()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limit.expired


async def test_one_that_ends_although_it_was_cut_off_takes_its_cancellation_back() -> None:
    ends = Deadlines(TimeLimit.passed)
    limit = TimeLimit(ends, 0.0)
    with limit, pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    assert limit.expired
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
