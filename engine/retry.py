"""Whether a failed attempt is tried again, and when: a pure decision from LangGraph's own retry policies.

What is different from LangGraph is only where the count lives (in the store, by run and task, so that a crash does not
begin it anew) and where the wait happens (a long one frees the worker).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # webhooks and whoever reads runs know the waits, and need no LangGraph for that
    from langgraph.types import RetryPolicy

#: No provider is obeyed for longer than this, in seconds: a run that waits a day has a person to be asked, not a timer.
LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No policy covers the error, or its attempts are used up."""

    exhausted: bool


@dataclass(frozen=True, slots=True)
class TryAgain:
    wait_s: float


def decide(
    policies: Sequence[RetryPolicy], error: Exception, attempt: int, *, now: datetime | None = None
) -> GiveUp | TryAgain:
    """What follows from ``error`` in the ``attempt``-th attempt (1-based; ``max_attempts`` counts the first).

    As in LangGraph the first policy that covers the error counts. A ``Retry-After`` that came with the error makes the
    wait longer, never shorter.
    """
    policy = next((policy for policy in policies if _covers(policy, error)), None)
    if policy is None:
        return GiveUp(exhausted=False)
    if attempt >= policy.max_attempts:
        return GiveUp(exhausted=True)
    return TryAgain(max(_backoff_s(policy, attempt), retry_after_s(error, now or datetime.now(UTC)) or 0.0))


def _covers(policy: RetryPolicy, error: Exception) -> bool:
    wanted: Any = policy.retry_on
    if isinstance(wanted, Sequence):
        return isinstance(error, tuple(wanted))
    if isinstance(wanted, type) and issubclass(wanted, Exception):
        return isinstance(error, wanted)
    return bool(wanted(error))


def _backoff_s(policy: RetryPolicy, attempt: int) -> float:
    interval = min(policy.max_interval, policy.initial_interval * policy.backoff_factor ** (attempt - 1))
    return interval + random.uniform(0, 1) if policy.jitter else interval  # noqa: S311 - spreads load, keeps no secret


def retry_after_s(error: Exception, now: datetime) -> float | None:
    """What the server that refused asked for: seconds or an HTTP date in ``Retry-After``, wherever clients keep it.

    httpx, requests, openai and anthropic all carry the response on the error; what cannot be read is ignored.
    """
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    text = headers.get("retry-after") if hasattr(headers, "get") else None
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _until(text, now)
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT_S)


def _until(text: str, now: datetime) -> float:
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return float("nan")
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now.timestamp()
