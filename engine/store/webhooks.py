"""Deliveries of webhooks in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runyard.engine import wire
from runyard.engine.run import DeliveryState, Run
from runyard.engine.store import run_record, runs
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys, Partition
from runyard.engine.store.replies import from_flat
from runyard.engine.store.results import values_in
from runyard.engine.store.runs import _woken
from runyard.engine.store.scripts import script
from runyard.engine.webhooks import Delivered, Verdict


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery in hand: the ``number``-th telling of the run's end, in its ``attempt``-th attempt."""

    run: Run
    number: int
    attempt: int
    values: bytes
    interrupts: dict[str, Any]


def claim(keys: Keys, run_id: str, *, nonce: str, lease_ms: int) -> Call[Owed | None]:
    """Take a delivery in hand, or None: it is somebody's, its time has not come, or there is none."""
    at = keys.of_run(run_id)

    def parse(reply: Any) -> Owed | None:
        if reply is None:
            return None
        fields, told = from_flat(reply[1]), from_flat(reply[2])
        asked = wire.decode(told["interrupts"]) if told.get("interrupts") else {}
        return Owed(run_record.decode(fields), int(fields["webhook:number"]), int(reply[0]), values_in(told), asked)

    wanted = (at.run(run_id), at.webhook(run_id), at.webhooks)
    return Call(script("claim_webhook"), wanted, (run_id, nonce, lease_ms), parse, runs.owner_in)


def settle(keys: Keys, run_id: str, nonce: str, verdict: Verdict) -> Call[bool]:
    """Note what came of an attempt; answers False when the delivery was taken over in the meantime."""
    at = keys.of_run(run_id)
    state: DeliveryState
    if isinstance(verdict, Delivered):
        state, wait_s, problem = "delivered", 0.0, ""
    else:
        state, wait_s = ("failed", 0.0) if verdict.retry_s is None else ("pending", verdict.retry_s)
        problem = verdict.problem
    wanted = (at.run(run_id), at.webhook(run_id), at.webhooks, at.webhooks_failed)
    words = (run_id, nonce, state, round(wait_s * 1000), verdict.status or "", problem)
    return Call(script("settle_webhook"), wanted, words, bool)


def wake(at: Partition, *, most: int) -> Call[runs.Woken]:
    """Deliveries of one partition whose time has come: what is to be woken, on which queue."""
    return Call(script("wake_webhooks"), (at.webhooks,), (at.run(""), most), _woken)


def resend(keys: Keys, run: Run) -> Call[int]:
    """Have the webhook of an ended run delivered anew. Raises RunNotFound, InvalidTransition."""
    at, run_id = keys.of_run(run.run_id), run.run_id
    wanted = (at.run(run_id), at.thread(run.thread_id), at.webhook(run_id), at.webhooks, at.webhooks_failed)
    return Call(script("resend_webhook"), wanted, (run_id, runs.WEBHOOK_GRACE_MS))


def listed(at: Partition, state: DeliveryState, *, limit: int) -> Call[list[tuple[str, float]]]:
    """Ids of a partition's runs whose webhook is pending, soonest first, or failed, newest first, with their ms."""
    key, order = (at.webhooks_failed, "ZREVRANGE") if state == "failed" else (at.webhooks, "ZRANGE")
    return Call.command(order, key, 0, limit - 1, "WITHSCORES", parse=_scored)


def _scored(reply: Any) -> list[tuple[str, float]]:
    """WITHSCORES answers pairs over RESP3 and in a client that converts, else a flat list."""
    if reply and not isinstance(reply[0], (list, tuple)):
        reply = list(zip(reply[::2], reply[1::2], strict=True))
    return [(member.decode(), float(score)) for member, score in reply]
