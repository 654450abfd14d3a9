"""Whether new work is accepted: by how long work of the same queue, or of the same tenant, has been waiting already.

The age of the oldest waiting run says whether the fleet keeps up, whatever its size; a number of runs does not.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from runyard.engine.errors import Backlogged, TooManyWaiting
from runyard.engine.settings import Settings
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.recovery import clock

#: How long a look at the queue holds, in seconds: a POST pays for one only now and then.
LOOK_EVERY_S = 1.0
#: Nobody is told to stay away for longer, in seconds.
_LONGEST_S = 600
#: What a priority moves a run by in its line; see lib_line.lua.
_PRIORITY = 10**13


@dataclass(frozen=True, slots=True)
class Look:
    """What waited at one moment: how many, and since when the oldest (ms); ``now_ms`` is the store's clock."""

    now_ms: int
    waiting: int
    oldest_ms: int

    @property
    def age_s(self) -> float:
        return max(0.0, (self.now_ms - self.oldest_ms) / 1000) if self.waiting else 0.0


def is_full(look: Look, *, most_age_s: float, most_waiting: int) -> bool:
    """Whether work is refused: the oldest has waited for too long, and as many wait as may all the same."""
    return look.age_s > most_age_s and look.waiting >= most_waiting


def retry_after_s(before: Look | None, look: Look, *, most_age_s: float) -> int:
    """When it is worth coming again: once the queue has caught up, at the pace it had between two looks."""
    excess_s = look.age_s - most_age_s
    if before is not None and look.now_ms > before.now_ms:
        pace = (look.oldest_ms - before.oldest_ms) / (look.now_ms - before.now_ms) - 1.0
        if pace > 0:
            excess_s = excess_s / pace
    return max(1, min(_LONGEST_S, math.ceil(excess_s)))


@dataclass(slots=True)
class _Seen:
    at: float = -math.inf
    look: Look | None = None
    before: Look | None = None


@dataclass(slots=True)
class Admission:
    """One per process. Off, and free of cost, unless RUNYARD_MAX_QUEUE_AGE_S says how old the queue may be."""

    store: SyncStore
    settings: Settings
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, keys: Keys, tenant: str) -> None:
        """Raises Backlogged, or TooManyWaiting when it is the tenant's own runs that wait."""
        most_age_s, most_waiting = self.settings.max_queue_age_s, self.settings.max_waiting
        if not most_age_s:
            return
        seen = self._looked(keys, tenant)
        if seen.look is None or not is_full(seen.look, most_age_s=most_age_s, most_waiting=most_waiting):
            return
        after_s = retry_after_s(seen.before, seen.look, most_age_s=most_age_s)
        refused = TooManyWaiting if tenant else Backlogged
        raise refused(
            f"{seen.look.waiting} runs wait, the oldest for {seen.look.age_s:.0f} s; new ones are accepted again when "
            f"that is {most_age_s:g} s at most. Try again in {after_s} s.",
            retry_after_s=after_s,
        )

    def _looked(self, keys: Keys, tenant: str) -> _Seen:
        with self._lock:
            seen = self._seen.setdefault(tenant, _Seen())
            if time.monotonic() - seen.at > LOOK_EVERY_S:
                seen.at, seen.before = time.monotonic(), seen.look
                seen.look = self._look(keys, tenant)
            return seen

    def _look(self, keys: Keys, tenant: str) -> Look:
        """Of the default tenant the whole queue counts, of another what it has in line itself."""
        queue = self.settings.queue
        indexes = [at.line(queue, tenant) if tenant else at.waiting for at in keys.all()]
        calls: list[Call[Any]] = [clock()]
        for index in indexes:
            calls += [Call.command("ZCARD", index), Call.command("ZRANGE", index, 0, 0, "WITHSCORES")]
        now_ms, *replies = self.store.do_all(calls)
        oldest = [round(float(_score(reply))) % _PRIORITY for reply in replies[1::2] if reply]
        return Look(now_ms, sum(replies[::2]), min(oldest, default=now_ms))


def _score(reply: Any) -> Any:
    first = reply[0]
    return first[1] if isinstance(first, list | tuple) else reply[1]
