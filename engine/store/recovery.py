"""What recovery asks of the store, and the signs of life of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys, Partition
from runyard.engine.store.replies import as_hash, scored
from runyard.engine.store.runs import Woken, _woken
from runyard.engine.store.scripts import script

#: A worker that gave no sign for this long is gone (it gives one every second), and is remembered for the second time.
WORKER_GONE_MS = 5_000
WORKER_TTL_MS = 60_000
#: How long it is believed that a worker still has the wake-ups it said it has.
HOLDS_MS = 3_000


def lead(keys: Keys, worker_id: str, *, office_ms: int) -> Call[tuple[bool, int]]:
    """Become or stay leader; answers whether, and the store's clock in ms."""
    return Call(script("lead"), (keys.leader,), (worker_id, office_ms), lambda reply: (reply[0] == 1, int(reply[1])))


def resign(keys: Keys, worker_id: str) -> Call[int]:
    return Call(script("resign"), (keys.leader,), (worker_id,))


@dataclass(frozen=True, slots=True)
class Lost:
    #: Where the next look at this partition begins.
    skip: int
    woken: Woken
    #: Queues that were not named, of members that might be lost.
    unknown: list[str]


class ToDo(NamedTuple):
    """What of a partition has had its time."""

    due: bool
    cuts: bool
    leases: bool
    webhooks: bool
    deadlines: bool
    waiting: bool


def look_around(at: Partition, *, before_ms: int) -> Call[ToDo]:
    """See what there is to do in one partition; wake-ups after ``before_ms`` are too young to be lost."""
    looked_at = (at.due, at.cuts, at.leases, at.webhooks, at.deadlines, at.waiting)
    return Call(script("look_around"), looked_at, (before_ms,), lambda reply: ToDo(*(one == 1 for one in reply)))


def promote(at: Partition, *, most: int) -> Call[Woken]:
    """Move what is due in one partition on; answers what is to be woken, on which queue."""
    return Call(script("promote_due"), (at.due, at.waiting), (at.run(""), at.thread(""), most), _woken)


def cut(keys: Keys, at: Partition, *, most: int) -> Call[Woken]:
    """Cut the rest of fan-outs off whose time is over, in one partition; answers what is to be woken."""
    return Call(script("cut_branches"), (at.cuts, at.leases, at.waiting), (at.run(""), keys.control, most), _woken)


def reap(at: Partition, *, most: int) -> Call[Woken]:
    """Take the expired leases of one partition back; answers what is to be woken, on which queue."""
    return Call(script("reap_leases"), (at.leases, at.waiting), (at.run(""), most), _woken)


def find_lost(at: Partition, lost_before: Mapping[str, int], *, before_ms: int, most: int, skip: int) -> Call[Lost]:
    """Find lost wake-ups among the ``most`` oldest of one partition after the first ``skip``.

    ``lost_before`` says for each queue the instant before which a wake-up is lost; none after ``before_ms`` is.
    """
    queues = [word for pair in lost_before.items() for word in pair]
    return Call(
        script("find_lost"),
        (at.waiting,),
        (at.run(""), most, skip, before_ms, *queues),
        lambda reply: Lost(int(reply[0]), _woken(reply[1]), _ids(reply[2])),
    )


def ended(at: Partition, before_ms: int, *, most: int) -> Call[list[str]]:
    """Runs that ended before an instant, oldest first."""
    return Call.command("ZRANGEBYSCORE", at.ended, "-inf", before_ms, "LIMIT", 0, most, parse=_ids)


def dead(at: Partition, before_ms: int, *, most: int) -> Call[list[str]]:
    """Dead letters of runs that ended before an instant, oldest first."""
    return Call.command("ZRANGEBYSCORE", at.dead, "-inf", before_ms, "LIMIT", 0, most, parse=_ids)


def keep(keys: Keys, run_id: str) -> Call[Any]:
    """Let a run that is past its keeping stay as long again: it has something to tell yet."""
    return Call(script("keep_run"), (keys.of_run(run_id).ended, keys.of_run(run_id).dead), (run_id,))


def rollbacks(at: Partition, before_ms: int) -> Call[list[str]]:
    """Runs whose roll-back was begun before an instant and not finished."""
    return Call.command("ZRANGEBYSCORE", at.rollbacks, "-inf", before_ms, parse=_ids)


def overdue(at: Partition, now_ms: int, *, most: int) -> Call[list[str]]:
    """Runs whose deadline has passed."""
    return Call.command("ZRANGEBYSCORE", at.deadlines, "-inf", now_ms, "LIMIT", 0, most, parse=_ids)


def oldest(at: Partition, *, most: int = 20) -> Call[dict[str, int]]:
    """Those of one partition that have waited longest for a worker, with the ms of their wake-up."""
    words = ("ZRANGE", at.waiting, 0, most - 1, "WITHSCORES")
    return Call.command(*words, parse=lambda reply: {member.decode(): int(float(ms)) for member, ms in reply})


def consumed(keys: Keys) -> Call[dict[str, int]]:
    """For each queue that was ever consumed, the ms of the newest wake-up that was."""
    return Call.command("HGETALL", keys.queues, parse=lambda reply: {k: int(v) for k, v in as_hash(reply).items()})


def holding(keys: Keys) -> Call[dict[str, int]]:
    """For each queue until when, in ms, some worker is believed to have wake-ups of it that it has not acted on."""
    words = ("ZRANGE", keys.holding, 0, -1, "WITHSCORES")
    return Call.command(*words, parse=lambda reply: {queue.decode(): int(float(ms)) for queue, ms in scored(reply)})


def clock() -> Call[int]:
    """The store's wall clock in ms."""
    return Call.command("TIME", parse=lambda reply: int(reply[0]) * 1000 + int(reply[1]) // 1000)


def beat(
    keys: Keys, worker_id: str, facts: Mapping[str, str | int], consumed_ms: Mapping[str, int], now_ms: int,
    *, holds: Sequence[str] = (),
) -> list[Call[Any]]:  # fmt: skip
    """A sign of life: what the worker is and does, how far it has consumed its queues, and of which it holds wake-ups
    that it has not acted on."""
    words = [word for pair in facts.items() for word in pair]
    held = [word for queue in holds for word in (now_ms + HOLDS_MS, queue)]
    return [
        Call.command("HSET", keys.worker(worker_id), *words),
        Call.command("PEXPIRE", keys.worker(worker_id), WORKER_TTL_MS),
        Call.command("ZADD", keys.workers, now_ms, worker_id),
        Call.command("ZREMRANGEBYSCORE", keys.workers, "-inf", now_ms - WORKER_TTL_MS),
        *([Call.command("ZADD", keys.holding, "GT", *held)] if held else []),
        *(Call(script("note_consumed"), (keys.queues,), (queue, ms)) for queue, ms in consumed_ms.items()),
    ]


def leave(keys: Keys, worker_id: str) -> list[Call[Any]]:
    """A worker that ends in order takes itself off the list."""
    return [Call.command("ZREM", keys.workers, worker_id), Call.command("DEL", keys.worker(worker_id))]


def workers(keys: Keys) -> Call[dict[str, int]]:
    """Ids of the workers of the last minute, with the ms of their last sign of life."""
    words = ("ZRANGE", keys.workers, 0, -1, "WITHSCORES")
    return Call.command(*words, parse=lambda reply: {name.decode(): int(float(ms)) for name, ms in reply})


def worker(keys: Keys, worker_id: str) -> Call[dict[str, str]]:
    return Call.command(
        "HGETALL", keys.worker(worker_id), parse=lambda r: {k: v.decode() for k, v in as_hash(r).items()}
    )


def _ids(reply: Sequence[bytes]) -> list[str]:
    return [item.decode() for item in reply]
