"""What was spent, in the store: by run and thread beside their records, by tenant and day in hashes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runyard.engine import wire
from runyard.engine.budget import KINDS, Amounts, Reached, Scope
from runyard.engine.run import Run, RunRequest
from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

#: How long a tenant's days are kept, in seconds.
_KEEP_S = 40 * 86_400
#: After so long a call that nobody speaks for any more is over: its worker died. In ms.
CALL_MS = 60_000
_FIELDS = tuple(f"{word}:{kind}" for word in ("spent", "granted") for kind in KINDS)

#: Spent, granted.
Account = tuple[dict[str, float], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Begins:
    """A call that is about to begin: what it is counted as ("" for nothing), and what it comes to at most."""

    id: str
    kind: str
    tokens: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may begin; else it has to wait for one under way, or a budget is used up."""

    waits: bool
    reached: Reached | None
    #: What each account has spent by now, by kind.
    spent: Mapping[Scope, dict[str, float]]

    @property
    def may_begin(self) -> bool:
        return not self.waits and self.reached is None


def begin(keys: Keys, run: Run, call: Begins, limits: Mapping[Scope, Amounts]) -> Call[Verdict]:
    """Let a call begin as far as the budgets of its run and its thread go; with the same id again: it goes on."""
    at = keys.of_thread(run.thread_id)
    accounts = (at.run(run.run_id), at.run_calls(run.run_id), at.thread(run.thread_id), at.thread_calls(run.thread_id))
    return _begin(accounts, call, ("run", "thread"), limits, make="")


def begin_on_day(keys: Keys, tenant: str, day: str, call: Begins, limits: Mapping[Scope, Amounts]) -> Call[Verdict]:
    """The same for a tenant's day."""
    account = (keys.spent(tenant, day), keys.spent_calls(tenant, day))
    return _begin(account, call, ("tenant_day",), limits, make="1")


def _begin(
    accounts: tuple[str, ...], call: Begins, scopes: tuple[Scope, ...], limits: Mapping[Scope, Amounts], *, make: str
) -> Call[Verdict]:
    wanted: list[str | float] = []
    for scope in scopes:
        own = limits.get(scope, {})
        wanted += [len(own), *(word for what, most in own.items() for word in (what, f"{most:.9f}"))]
    asked = [f"spent:{kind}" for kind in KINDS]

    def parse(reply: Any) -> Verdict:
        numbers = [float(word) for word in reply[5:]]
        count = len(KINDS)
        spent = {
            scope: dict(zip(KINDS, numbers[number * count : (number + 1) * count], strict=True))
            for number, scope in enumerate(scopes)
        }
        if reply[0] != b"reached":
            return Verdict(reply[0] == b"wait", None, spent)
        reached = Reached(scopes[int(reply[1]) - 1], reply[2].decode(), float(reply[3]), float(reply[4]))
        return Verdict(False, reached, spent)

    head = (call.id, CALL_MS, call.kind, f"{call.tokens:.0f}", f"{call.cost:.9f}", make)
    return Call(script("begin_call"), accounts, (*head, len(asked), *asked, *wanted), parse)


def note(
    keys: Keys, run: Run, amounts: Amounts, ended: Sequence[str] = ()
) -> Call[tuple[dict[str, float], dict[str, float]]]:
    """Count amounts with a run and its thread, and forget calls that have ended; answers what both have spent of these
    kinds by now."""
    at = keys.of_thread(run.thread_id)
    pairs = [word for kind, amount in amounts.items() for word in (kind, f"{amount:.9f}")]

    def parse(reply: Any) -> tuple[dict[str, float], dict[str, float]]:
        numbers = [float(word) for word in reply]
        return dict(zip(amounts, numbers[::2], strict=True)), dict(zip(amounts, numbers[1::2], strict=True))

    wanted = (at.run(run.run_id), at.thread(run.thread_id), at.run_calls(run.run_id), at.thread_calls(run.thread_id))
    return Call(script("note_spent"), wanted, (len(amounts), *pairs, *ended), parse)


def end_on_day(keys: Keys, tenant: str, day: str, ended: Sequence[str]) -> list[Call[Any]]:
    """Forget calls that have ended; after what they spent was counted."""
    return [Call.command("HDEL", keys.spent_calls(tenant, day), *ended)] if ended else []


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
    words = (fence.value, keys.seal(wire.encode(asdict(request)), run.run_id), "run" if to_run else "", *pairs)
    return Call(script("grant_budget"), (at.run(run.run_id), at.thread(run.thread_id)), words, bool)


def grant_day(keys: Keys, tenant: str, day: str, amounts: Mapping[str, float]) -> list[Call[float]]:
    key = keys.spent(tenant, day)
    return [Call.command("HINCRBYFLOAT", key, f"granted:{kind}", f"{amount:.9f}") for kind, amount in amounts.items()]


def _account(reply: Any) -> Account:
    numbers = [float(word) if word else 0.0 for word in reply]
    return dict(zip(KINDS, numbers, strict=False)), dict(zip(KINDS, numbers[len(KINDS) :], strict=False))
