"""How many wake-ups a worker acts on: no more than it has time for, and a trickle while its runs wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from runyard.engine.pace import FEW, FRESH_S, LATE_S, MOST_READY, STORE_TIMES, TRICKLE_S, Pace, Seen, is_late, may_act

IDLE = Seen(save_s=0.0, age_s=0.0, store_s=0.0, since_s=0.0, in_hand=FEW, at_work=FEW)
LATE = replace(IDLE, save_s=LATE_S * 2)


class Clock:
    """Goes on when it is told to; a turn of the loop takes no time on it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seen", "late"),
    [
        (IDLE, False),
        (replace(IDLE, save_s=LATE_S), False),
        (LATE, True),
        (replace(LATE, in_hand=FEW - 1), False),
        (replace(LATE, save_s=9.0, age_s=FRESH_S), False),
        (replace(LATE, save_s=STORE_TIMES * 0.1, store_s=0.1), False),
        (replace(LATE, save_s=STORE_TIMES * 0.1 + LATE_S * 2, store_s=0.1), True),
    ],
    ids=["idle", "at the edge", "late", "few", "long ago", "a slow store", "late on a slow store"],
)
def test_it_is_late_when_saving_takes_much_longer_than_the_store_needs(seen: Seen, late: bool) -> None:
    assert is_late(seen) is late


@given(
    st.floats(0, 100), st.floats(0, 100), st.floats(0, 10), st.floats(0, 100), st.integers(0, 99), st.integers(0, 99)
)
def test_there_is_a_next_one_unless_enough_runs_want_the_core_or_a_late_worker_had_one_just_now(
    save_s: float, age_s: float, store_s: float, since_s: float, ready: int, at_work: int
) -> None:
    seen = Seen(
        save_s=save_s, age_s=age_s, store_s=store_s, since_s=since_s, in_hand=ready + at_work, at_work=at_work
    )  # fmt: skip
    assert may_act(seen) is (ready < MOST_READY and (not is_late(seen) or since_s >= TRICKLE_S))


def test_runs_whose_nodes_are_at_work_keep_nobody_out_however_many_there_are() -> None:
    assert may_act(replace(IDLE, in_hand=100_000, at_work=100_000))
    assert not may_act(replace(IDLE, in_hand=100_000, at_work=100_000 - MOST_READY))


class Asking:
    """Those who have asked for their turn: each keeps it until it is told to leave."""

    def __init__(self, pace: Pace, count: int) -> None:
        self._pace, self.entered = pace, [asyncio.Event() for _ in range(count)]
        self._may_leave = [asyncio.Event() for _ in range(count)]
        self.tasks = [asyncio.ensure_future(self._ask(number)) for number in range(count)]

    async def _ask(self, number: int) -> None:
        await self._pace.turn()
        try:
            self.entered[number].set()
            await self._may_leave[number].wait()
        finally:
            self._pace.over()

    async def let_through(self) -> list[int]:
        """Which of them were let through by now."""
        for _ in range(4):
            await asyncio.sleep(0)
        return [number for number, entered in enumerate(self.entered) if entered.is_set()]

    def leave(self, number: int) -> None:
        self._may_leave[number].set()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_as_many_are_let_through_as_keep_a_core_busy_and_another_when_one_has_ended(clock: Clock) -> None:
    pace = Pace(clock=clock)
    asking = Asking(pace, MOST_READY + 3)
    assert await asking.let_through() == list(range(MOST_READY))
    assert pace.waiting == 3
    asking.leave(5)
    assert await asking.let_through() == list(range(MOST_READY + 1))
    await asking.close()
    assert pace.waiting == 0


async def test_another_is_let_through_when_a_runs_node_is_at_work_and_none_when_it_has_ended(clock: Clock) -> None:
    pace = Pace(clock=clock)
    asking = Asking(pace, MOST_READY + 3)
    pace.node_at_work()
    assert await asking.let_through() == list(range(MOST_READY + 1))
    pace.nodes_ended()
    asking.leave(0)
    assert await asking.let_through() == list(range(MOST_READY + 1)), "two are too many, and one of them has left"
    asking.leave(1)
    assert await asking.let_through() == list(range(MOST_READY + 2))
    await asking.close()


async def test_a_late_worker_lets_them_through_one_by_one_in_the_order_they_came(clock: Clock) -> None:
    pace = Pace(clock=clock)
    first = Asking(pace, FEW)
    assert len(await first.let_through()) == FEW
    pace.saved(LATE_S * 3)
    asking = Asking(pace, 4)
    assert await asking.let_through() == []
    for count in range(1, 5):
        clock.now += TRICKLE_S
        pace.saved(LATE_S * 3)
        async with asyncio.timeout(5):
            await asking.entered[count - 1].wait()
        assert await asking.let_through() == list(range(count))
    await asking.close()
    await first.close()


async def test_one_that_is_not_late_any_more_lets_all_through(clock: Clock) -> None:
    pace = Pace(clock=clock)
    first = Asking(pace, FEW)
    assert len(await first.let_through()) == FEW
    pace.saved(LATE_S * 3)
    asking = Asking(pace, 10)
    assert await asking.let_through() == []
    for _ in range(30):
        pace.saved(0.001)
    async with asyncio.timeout(5):
        for entered in asking.entered:
            await entered.wait()
    await asking.close()
    await first.close()


async def test_who_was_cancelled_holds_up_nobody_and_takes_nobodys_place(clock: Clock) -> None:
    pace = Pace(clock=clock)
    asking = Asking(pace, MOST_READY + 3)
    assert len(await asking.let_through()) == MOST_READY
    asking.tasks[MOST_READY].cancel()
    asking.leave(0)  # the next is let through in the same turn of the loop in which it is cancelled
    asking.tasks[1].cancel()
    await asyncio.sleep(0)
    asking.tasks[MOST_READY + 1].cancel()
    assert MOST_READY + 2 in await asking.let_through()
    await asking.close()
    again = Asking(pace, MOST_READY + 1)
    assert await again.let_through() == list(range(MOST_READY))
    await again.close()


async def test_a_process_that_was_told_to_stop_lets_all_through(clock: Clock) -> None:
    pace = Pace(clock=clock)
    asking = Asking(pace, 100)
    assert len(await asking.let_through()) == MOST_READY
    pace.open()
    assert await asking.let_through() == list(range(100))
    more = Asking(pace, 50)
    assert await more.let_through() == list(range(50))
    await asking.close()
    await more.close()
