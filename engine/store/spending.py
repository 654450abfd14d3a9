"""What was spent, in the store: by run and thread beside their records, by tenant and day in hashes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from runyard.engine import wire
from runyard.engine.budget import KINDS, Amounts
from runyard.engine.run import Run, RunRequest
from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

#: How long a tenant's days are kept, in seconds.
_KEEP_S = 40 * 86_400
_FIELDS = tuple(f"{word}:{kind}" for word in ("spent", "granted") for kind in KINDS)

#: Spent, granted.
Account = tuple[dict[str, float], dict[str, float]]


def note(keys: Keys, run: Run, amounts: Amounts) -> Call[tuple[dict[str, float], dict[str, float]]]:
    """Count amounts with a run and its thread; answers what both have spent of these kinds by now."""
    at = keys.of_thread(run.thread_id)
    pairs = [word for kind, amount in amounts.items() for word in (kind, f"{amount:.9f}")]

    def parse(reply: Any) -> tuple[dict[str, float], dict[str, float]]:
        numbers = [float(word) for word in reply]
        return dict(zip(amounts, numbers[::2], strict=True)), dict(zip(amounts, numbers[1::2], strict=True))

    wanted = (at.run(run.run_id), at.thread(run.thread_id))
    return Call(script("note_spent"), wanted, (len(amounts), *pairs), parse)


def note_day(keys: Keys, tenant: str, day: str, kind: str, amount: float) -> Call[float]:
    """Count an amount of one kind with a tenant's day; answers what it has spent by now."""
    return Call.command("HINCRBYFLOAT", keys.spent(tenant, day), f"spent:{kind}", f"{amount:.9f}", parse=float)


def keep_day(keys: Keys, tenant: str, day: str) -> Call[int]:
    return Call.command("EXPIRE", keys.spent(tenant, day), _KEEP_S)


def of_day(keys: Keys, tenant: str, day: str) -> Call[Account]:
    return Call.command("HMGET", keys.spent(tenant, day), *_FIELDS, parse=_account)


def of_thread(keys: Keys, thread_id: str) -> Call[tuple[dict[str, Any], Account]]:
    """What a thread asks, by task id, and what it has spent."""
    key = keys.of_thread(thread_id).thread(thread_id)

    def parse(reply: Any) -> tuple[dict[str, Any], Account]:
        return (wire.decode(reply[0]) if reply[0] else {}), _account(reply[1:])

    return Call.command("HMGET", key, "interrupts", *_FIELDS, parse=parse)


def grant(
    keys: Keys, run: Run, fence: Fence, request: RunRequest, amounts: Amounts, *, to_run: bool, nobody: bool = False
) -> Call[bool]:
    """Grant more to a run or its thread (or, ``nobody``, only take the answer), once; answers whether it was now."""
    at = keys.of_thread(run.thread_id)
    pairs: list[str] = [] if nobody else [w for kind, amount in amounts.items() for w in (kind, f"{amount:.9f}")]
    words = (fence.value, wire.encode(asdict(request)), "run" if to_run else "", *pairs)
    return Call(script("grant_budget"), (at.run(run.run_id), at.thread(run.thread_id)), words, bool)


def grant_day(keys: Keys, tenant: str, day: str, amounts: Mapping[str, float]) -> list[Call[float]]:
    key = keys.spent(tenant, day)
    return [Call.command("HINCRBYFLOAT", key, f"granted:{kind}", f"{amount:.9f}") for kind, amount in amounts.items()]


def _account(reply: Any) -> Account:
    numbers = [float(word) if word else 0.0 for word in reply]
    return dict(zip(KINDS, numbers, strict=False)), dict(zip(KINDS, numbers[len(KINDS) :], strict=False))
