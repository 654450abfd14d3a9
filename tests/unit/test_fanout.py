"""How many of a fan-out are enough, and what follows from each end of a task."""

from __future__ import annotations

from typing import Any

import pytest

from runyard.engine.fanout import Fanout, Verdict, needed


@pytest.mark.parametrize(
    ("quorum", "tasks", "enough"),
    [(0, 5, 0), (3, 5, 3), (9, 5, 5), ("0%", 5, 0), ("50%", 5, 3), ("80%", 5, 4), ("100%", 7, 7), ("33.3%", 3, 1),
     ("7%", 100, 7), ("1%", 3, 1)],
)  # fmt: skip
def test_a_share_is_rounded_up_and_never_more_than_there_are(quorum: Any, tasks: int, enough: int) -> None:
    assert needed(quorum, tasks) == enough


def of(tasks: int, enough: int) -> Fanout:
    ids = [str(number) for number in range(tasks)]
    return Fanout("0", enough, None, frozenset(ids), set(), set(ids))


def test_the_verdict_is_open_until_it_depends_on_nobody() -> None:
    fanout = of(4, 2)
    fanout.answer("0")
    fanout.fail("1")
    assert fanout.verdict is Verdict.OPEN
    assert not fanout.decided.is_set()
    fanout.fail("2")
    assert fanout.verdict is Verdict.OPEN
    fanout.answer("3")
    assert fanout.verdict is Verdict.REACHED
    assert fanout.decided.is_set()


def test_it_is_lost_as_soon_as_too_few_are_left() -> None:
    fanout = of(4, 3)
    fanout.fail("0")
    fanout.fail("1")
    assert fanout.verdict is Verdict.LOST
    assert fanout.decided.is_set()


def test_who_waits_is_told_when_nothing_here_can_change_it() -> None:
    fanout = of(3, 2)
    fanout.answer("0")
    fanout.fail("1")
    fanout.leave("2")  # it waits for its next attempt
    assert fanout.verdict is Verdict.OPEN
    assert fanout.decided.is_set()
