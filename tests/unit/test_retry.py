"""Whether a failed attempt is tried again, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given, strategies as st
from langgraph.types import RetryPolicy

from runyard.engine.retry import LONGEST_WAIT_S, GiveUp, TryAgain, decide, retry_after_s

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STEADY = RetryPolicy(max_attempts=3, initial_interval=2.0, backoff_factor=2.0, jitter=False, retry_on=KeyError)


def refused(retry_after: str | None) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://models.test/")
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.HTTPStatusError("busy", request=request, response=httpx.Response(503, headers=headers))


def test_attempts_count_the_first_one() -> None:
    assert decide([STEADY], KeyError("k"), 2) == TryAgain(4.0)
    assert decide([STEADY], KeyError("k"), 3) == GiveUp(exhausted=True)


def test_an_error_that_no_policy_covers_is_not_tried_again() -> None:
    assert decide([STEADY], ValueError("v"), 1) == GiveUp(exhausted=False)
    assert decide([], ValueError("v"), 1) == GiveUp(exhausted=False)


def test_the_first_policy_that_covers_the_error_counts() -> None:
    patient = RetryPolicy(max_attempts=9, initial_interval=7.0, jitter=False, retry_on=(KeyError, ValueError))
    assert decide([STEADY, patient], KeyError("k"), 1) == TryAgain(2.0)
    assert decide([STEADY, patient], ValueError("v"), 1) == TryAgain(7.0)


def test_langgraphs_own_judgement_is_the_default() -> None:
    default = RetryPolicy(jitter=False)
    assert decide([default], ConnectionError(), 1) == TryAgain(default.initial_interval)
    assert decide([default], ValueError(), 1) == GiveUp(exhausted=False)


@given(attempt=st.integers(1, 50))
def test_the_wait_grows_and_stops_at_the_longest_interval(attempt: int) -> None:
    policy = RetryPolicy(max_attempts=100, initial_interval=0.5, max_interval=20.0, jitter=False, retry_on=Exception)
    decision = decide([policy], KeyError(), attempt)
    assert decision == TryAgain(min(20.0, 0.5 * 2.0 ** (attempt - 1)))


def test_retry_after_makes_the_wait_longer_and_never_shorter() -> None:
    policy = RetryPolicy(initial_interval=2.0, jitter=False, retry_on=httpx.HTTPStatusError)
    assert decide([policy], refused("30"), 1) == TryAgain(30.0)
    assert decide([policy], refused("1"), 1) == TryAgain(2.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("12", 12.0),
        ("0.5", 0.5),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("1e9", LONGEST_WAIT_S),
        ("soon", None),
        ("nan", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(refused(header), NOW) == seconds


def test_an_error_without_a_response_asks_for_nothing() -> None:
    assert retry_after_s(KeyError("k"), NOW) is None
