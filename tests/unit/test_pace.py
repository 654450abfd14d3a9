"""How many wake-ups a worker acts on: all of them, or a trickle while its runs wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from runyard.engine.pace import (
    BEAT_S,
    FEW,
    FRESH_S,
    LATE_S,
    MOST_A_BEAT,
    STORE_TIMES,
    TRICKLE_S,
    Pace,
    Seen,
    admitted,
    is_late,
)

LATE = Seen(save_s=LATE_S * 2, age_s=0.0, store_s=0.0, since_s=0.0, in_hand=FEW)


class Clock:
    """Goes on when it is told to; a turn of the loop takes no time on it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seen", "late"),
    [
        (Seen(save_s=0.0, age_s=0.0, store_s=0.0, since_s=0.0, in_hand=FEW), False),
        (Seen(save_s=LATE_S, age_s=0.0, store_s=0.0, since_s=0.0, in_hand=FEW), False),
        (LATE, True),
        (replace(LATE, in_hand=FEW - 1), False),
        (Seen(save_s=9.0, age_s=FRESH_S, store_s=0.0, since_s=0.0, in_hand=FEW), False),
        (Seen(save_s=STORE_TIMES * 0.1, age_s=0.0, store_s=0.1, since_s=0.0, in_hand=FEW), False),
        (Seen(save_s=STORE_TIMES * 0.1 + LATE_S * 2, age_s=0.0, store_s=0.1, since_s=0.0, in_hand=FEW), True),
    ],
    ids=["idle", "at the edge", "late", "few", "long ago", "a slow store", "late on a slow store"],
)
def test_it_is_late_when_saving_takes_much_longer_than_the_store_needs(seen: Seen, late: bool) -> None:
    assert is_late(seen) is late


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 10), st.floats(0, 100), st.integers(0, 2 * FEW))
def test_there_is_always_a_next_one_and_never_more_than_a_beat_takes(
    save_s: float, age_s: float, store_s: float, since_s: float, in_hand: int
) -> None:
    seen = Seen(save_s=save_s, age_s=age_s, store_s=store_s, since_s=since_s, in_hand=in_hand)
    count = admitted(seen)
    assert 0 <= count <= MOST_A_BEAT
    assert count >= 1 or (is_late(seen) and since_s < TRICKLE_S), "nothing waits for ever"
    assert count <= 1 or not is_late(seen)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def passed(asked: list[asyncio.Task[None]]) -> list[int]:
    """Which of those who asked were let through by now."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [number for number, task in enumerate(asked) if task.done()]


def asking(pace: Pace, count: int) -> list[asyncio.Task[None]]:
    return [asyncio.ensure_future(pace.turn()) for _ in range(count)]


async def test_a_worker_that_is_not_late_lets_a_beats_worth_through_at_once_and_the_rest_soon(clock: Clock) -> None:
    pace = Pace(in_hand=lambda: FEW, clock=clock)
    asked = asking(pace, MOST_A_BEAT + 3)
    assert await passed(asked) == list(range(MOST_A_BEAT))
    assert pace.waiting == 3
    clock.now += BEAT_S
    async with asyncio.timeout(5):
        await asyncio.gather(*asked)
    assert pace.waiting == 0


async def test_a_late_worker_lets_them_through_one_by_one_in_the_order_they_came(clock: Clock) -> None:
    pace = Pace(in_hand=lambda: FEW, clock=clock)
    await pace.turn()
    pace.saved(LATE_S * 3)
    clock.now += BEAT_S
    asked = asking(pace, 4)
    assert await passed(asked) == []
    for count in range(1, 5):
        clock.now += TRICKLE_S
        pace.saved(LATE_S * 3)
        async with asyncio.timeout(5):
            await asked[count - 1]
        assert await passed(asked) == list(range(count))


async def test_one_that_is_not_late_any_more_lets_all_through(clock: Clock) -> None:
    pace = Pace(in_hand=lambda: FEW, clock=clock)
    await pace.turn()
    pace.saved(LATE_S * 3)
    clock.now += BEAT_S
    asked = asking(pace, MOST_A_BEAT)
    assert await passed(asked) == []
    for _ in range(1000):
        pace.saved(0.001)
    clock.now += BEAT_S
    async with asyncio.timeout(5):
        await asyncio.gather(*asked)


async def test_who_was_cancelled_holds_up_nobody(clock: Clock) -> None:
    pace = Pace(in_hand=lambda: FEW, clock=clock)
    await pace.turn()
    pace.saved(LATE_S * 3)
    clock.now += BEAT_S
    first, second = asking(pace, 2)
    assert await passed([first, second]) == []
    first.cancel()
    clock.now += TRICKLE_S
    async with asyncio.timeout(5):
        await second


async def test_a_process_that_was_told_to_stop_lets_all_through(clock: Clock) -> None:
    pace = Pace(in_hand=lambda: FEW, clock=clock)
    pace.saved(LATE_S * 3)
    asked = asking(pace, 50)
    assert len(await passed(asked)) <= 1
    pace.open()
    assert await passed(asked) == list(range(50))
    assert await passed(asking(pace, 50)) == list(range(50))
