"""Limits in the store: who holds a share, who waits for one, and in what order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runyard.engine.limits import Limit
from runyard.engine.run import Wake
from runyard.engine.store import runs
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import Plan
from runyard.engine.store.scripts import script

#: A share that is given to a parked run waits this long for it to come, in ms.
RESERVE_MS = 5_000

#: (waiter, member to wake or "") of each that has been given a share.
Given = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Taken:
    has_share: bool
    #: ms until its turn as far as that can be told; 0: when somebody gives a share back.
    wait_ms: int
    #: How many wait before it.
    before: int
    others: Given


def take(
    keys: Keys, limit: Limit, waiter: str, holder: str, *, lease_ms: int, believed_ms: int, wake: str = ""
) -> Call[Taken]:
    """Take a share, or a place in the queue. Sending it twice is the same as once.

    ``wake`` names a run or branch that is parked; without it the waiter waits in its process and shows signs of life.
    """
    words = (
        waiter, holder, limit.concurrency, f"{limit.interval_ms:.6f}", limit.burst, lease_ms, believed_ms, wake,
        RESERVE_MS, keys.shares,
    )  # fmt: skip
    return Call(
        script("take_share"), keys.limit_all(limit.name), words,
        lambda reply: Taken(reply[0] == 1, int(reply[1]), int(reply[2]), _given(reply[3:])),
    )  # fmt: skip


def give(keys: Keys, name: str, *, holder: str = "", waiter: str = "", blocked_ms: int = 0) -> Call[Given]:
    """Give a share or a place back (or nothing), and what room there is to those who wait."""
    words = (holder, waiter, blocked_ms, RESERVE_MS, keys.shares)
    return Call(script("give_share"), keys.limit_all(name), words, _given)


def renew(keys: Keys, name: str, holders: Sequence[str], waiters: Sequence[str], *, lease_ms: int) -> Call[int]:
    """Renew shares, and places in the queue; answers how many shares were lost."""
    wanted = (keys.limit_held(name), keys.limit_seen(name))
    return Call(script("renew_shares"), wanted, (lease_ms, len(holders), *holders, *waiters))


def remember(keys: Keys, name: str) -> Call[int]:
    """Let recovery know of a limit."""
    return Call.command("SADD", keys.limits, name)


def known(keys: Keys) -> Call[list[str]]:
    """Names of the limits that were ever used."""
    return Call.command("SMEMBERS", keys.limits, parse=lambda reply: sorted(name.decode() for name in reply))


def hand_on(keys: Keys, name: str, given: Given) -> Plan[list[Wake]]:
    """Wake the parked runs that have been given a share; answers the wake-ups to send. What is not wanted any more
    (the run was cancelled) goes to the next."""
    wakes: list[Wake] = []
    while parked := [(waiter, member) for waiter, member in given if member]:
        replies: list[tuple[bool, str]] = yield [runs.unpark(keys, member) for _, member in parked]
        unwanted = []
        for (waiter, member), (comes, queue) in zip(parked, replies, strict=True):
            if queue:
                run_id, branch = runs.split_member(member)
                wakes.append(Wake(run_id=run_id, queue=queue, branch=branch))
            if not comes:
                unwanted.append(waiter)
        again: list[Given] = (yield [give(keys, name, waiter=waiter) for waiter in unwanted]) if unwanted else []
        given = [pair for batch in again for pair in batch]
    return wakes


def _given(reply: Sequence[bytes]) -> Given:
    words = [word.decode() for word in reply]
    return list(zip(words[::2], words[1::2], strict=True))
