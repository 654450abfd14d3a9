"""Waiting in tests: poll until it is so, never sleep and hope."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    predicate: Callable[[], T], timeout_s: float = 10.0, interval_s: float = 0.02, *, what: str | None = None
) -> T:
    """Poll until ``predicate`` gives something true, and return that.

    An ``AssertionError`` inside the predicate means "not yet"; the last one is what the test fails with.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result, failure = _look(predicate)
        if result:
            return result  # type: ignore[return-value]
        if time.monotonic() >= deadline:
            raise AssertionError(_message(predicate, result, timeout_s, what)) from failure
        time.sleep(interval_s)


async def eventually_async(
    predicate: Callable[[], Awaitable[T]],
    timeout_s: float = 10.0,
    interval_s: float = 0.02,
    *,
    what: str | None = None,
) -> T:
    """:func:`eventually` for a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        result: T | None = None
        failure: AssertionError | None = None
        try:
            result = await predicate()
        except AssertionError as exc:
            failure = exc
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(_message(predicate, result, timeout_s, what)) from failure
        await asyncio.sleep(interval_s)


def _look(predicate: Callable[[], T]) -> tuple[T | None, AssertionError | None]:
    try:
        return predicate(), None
    except AssertionError as exc:
        return None, exc


def _message(predicate: object, result: object, timeout_s: float, what: str | None) -> str:
    name = what or getattr(predicate, "__name__", repr(predicate))
    return f"still not so after {timeout_s:g} s: {name} (last result: {result!r})"
