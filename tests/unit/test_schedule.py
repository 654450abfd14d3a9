"""Schedules: which are accepted, and when they come, also where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from runyard.engine.errors import InvalidInput
from runyard.engine.schedule import Schedule


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def following(expression: str, zone: str | None, after: str, count: int) -> list[str]:
    """The next instants, on the wall of the zone."""
    schedule, at, found = Schedule.of(expression, zone), ms(after), []
    for _ in range(count):
        next_at = schedule.next_after(at)
        assert next_at is not None
        assert next_at > at
        at = next_at
        found.append(datetime.fromtimestamp(at / 1000, ZoneInfo(zone or "UTC")).isoformat()[:19])
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T00:07:30+00:00", ["2026-01-01T00:15:00", "2026-01-01T00:30:00"]),
        ("0 9 * * MON-FRI", "2026-01-02T09:00:00+00:00", ["2026-01-05T09:00:00", "2026-01-06T09:00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00:00+00:00", ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
        ("0 12 L * *", "2026-02-01T00:00:00+00:00", ["2026-02-28T12:00:00", "2026-03-31T12:00:00"]),
        ("@daily", "2026-02-01T00:00:00+00:00", ["2026-02-02T00:00:00", "2026-02-03T00:00:00"]),
        ("0 0 * * 7", "2026-01-01T00:00:00+00:00", ["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),
    ],
)
def test_schedules_come_when_cron_says(expression: str, after: str, expected: list[str]) -> None:
    assert following(expression, None, after, 2) == expected


def test_a_time_of_day_that_is_skipped_comes_right_after_the_gap() -> None:
    days = following("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00", 3)
    assert days == ["2026-03-29T03:00:00", "2026-03-30T02:30:00", "2026-03-31T02:30:00"]


def test_a_time_of_day_that_comes_twice_counts_once() -> None:
    days = following("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+00:00", 2)
    assert days == ["2026-10-25T02:30:00", "2026-10-26T02:30:00"]
    again = following("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15:00+00:00", 1)  # the second 02:15
    assert again == ["2026-10-26T02:30:00"]


def test_what_recurs_within_the_day_goes_on_through_both() -> None:
    gap = following("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00+00:00", 3)
    assert gap == ["2026-03-29T03:00:00", "2026-03-29T03:30:00", "2026-03-29T04:00:00"]
    twice = following("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00+00:00", 4)
    assert twice == ["2026-10-25T02:00:00", "2026-10-25T02:00:00", "2026-10-25T03:00:00", "2026-10-25T04:00:00"]


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a b c d e",
     "*/0 * * * *", "5-1 * * * *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "@never", "L * * * *", "* " * 600],
)  # fmt: skip
def test_a_schedule_that_means_nothing_or_never_comes_is_refused_by_its_field(expression: str) -> None:
    with pytest.raises(InvalidInput, match=r"^schedule: "):
        Schedule.of(expression)


@pytest.mark.parametrize(
    "zone", ["Nowhere/Land", "Europe", "../etc/passwd", "/etc/localtime", "UTC+02:00", "x" * 500, "a\0b"]
)
def test_a_zone_that_is_none_is_refused_by_its_field(zone: str) -> None:
    with pytest.raises(InvalidInput, match=r"^timezone: must be the name of a time zone"):
        Schedule.of("* * * * *", zone)


def test_the_least_gap_is_that_between_the_closest_two() -> None:
    now = round(datetime.now(UTC).timestamp() * 1000)
    assert Schedule.of("* * * * *").least_gap_s(now) == 60
    assert Schedule.of("0,5 9 * * *").least_gap_s(now) == 300
    assert Schedule.of("0 0 29 2 *").least_gap_s(now) > 86400


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789*/-,#LWMON@ ", max_size=30))
def test_any_text_is_a_schedule_or_is_refused(text: str) -> None:
    try:
        schedule = Schedule.of(text)
    except InvalidInput:
        return
    instants = list(islice(schedule._after(0), 3))
    assert instants == sorted(set(instants))
