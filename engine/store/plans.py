"""Work that takes several round trips, written once for threads and for the event loop.

A plan is a generator that yields the calls of one round trip and is sent their answers; what it returns is its result.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from runyard.engine.store.client import AsyncStore, Call, SyncStore

T = TypeVar("T")
Plan = Generator[Sequence[Call[Any]], list[Any], T]


def carry_out(plan: Plan[T], store: SyncStore) -> T:
    """Run a plan from a thread. Not atomic: other writers may come between its round trips."""
    try:
        calls = next(plan)
        while True:
            calls = plan.send(store.do_all(calls) if calls else [])
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def acarry_out(plan: Plan[T], store: AsyncStore) -> T:
    """As :func:`carry_out`, from the event loop."""
    try:
        calls = next(plan)
        while True:
            calls = plan.send(await store.do_all(calls) if calls else [])
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
