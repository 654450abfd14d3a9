"""Delivering webhooks: what a run's end owes its client, sent at least once and accounted for."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import structlog

from runyard.engine import shape, wire
from runyard.engine.advance import result_of
from runyard.engine.errors import InvalidTransition
from runyard.engine.run import DeliveryState, Phase, Run, Wake
from runyard.engine.service import Service
from runyard.engine.store import runs, webhooks as calls
from runyard.engine.store.webhooks import Owed
from runyard.engine.webhooks import Delivered, wake_of
from runyard.engine.worker import Worker

log = structlog.get_logger(__name__)

#: On top of the time one attempt may take, before its sender is taken for lost, in ms.
_GRACE_MS = 5_000


async def deliver(worker: Worker, run_id: str) -> list[Wake]:
    """Make the next attempt to deliver a run's webhook, if it is time and nobody else is at it.

    Killed before the attempt was noted, it is made again: receivers see the same ``webhook-id``. Answers a wake-up to
    send, when this process may not take it.
    """
    if worker.draining:
        run = await worker.store.do(runs.get(worker.keys, run_id))
        return [wake_of(run.run_id, run.queue)] if run is not None else []
    hooks = worker.webhooks
    if not hooks.take_place():  # as many as allowed wait for their receivers; recovery asks again
        return []
    try:
        nonce, lease_ms = secrets.token_hex(8), round(hooks.policy.timeout_s * 1000) + _GRACE_MS
        owed = await worker.store.do(calls.claim(worker.keys, run_id, nonce=nonce, lease_ms=lease_ms))
        if owed is not None and owed.run.request.webhook:
            await _attempt(worker, owed, nonce, owed.run.request.webhook)
    finally:
        hooks.leave_place()
    return []


async def _attempt(worker: Worker, owed: Owed, nonce: str, url: str) -> None:
    run = owed.run
    delivery_id = f"{run.run_id}-{owed.number}"
    with worker.delivering(run, owed.attempt) as (trace, note):
        verdict = await worker.webhooks.send(
            url, body_of(owed), delivery_id=delivery_id, attempt=owed.attempt, trace=trace
        )
        note(verdict)
    await worker.store.do(calls.settle(worker.keys, run.run_id, nonce, verdict))
    facts = {"run_id": run.run_id, "delivery_id": delivery_id, "attempt": owed.attempt}
    if isinstance(verdict, Delivered):
        log.info("webhook.delivered", status=verdict.status, **facts)
    else:
        again = None if verdict.retry_s is None else round(verdict.retry_s, 1)
        log.warning("webhook.not_delivered", problem=verdict.problem, again_in_s=again, **facts)


def body_of(owed: Owed) -> bytes:
    """What a receiver is sent: the run as LangGraph's API shows it, when it began and ended, and what it left."""
    run = owed.run
    cut_off = run.phase is Phase.CANCELLED and run.started_at is not None
    error = runs.CANCELLED if cut_off else run.error
    told = {key: error.get(key) for key in ("error", "message")} if error else None
    return wire.encode(
        {
            **shape.of_run(run),
            "run_started_at": shape.at(run.started_at),
            "run_ended_at": shape.at(run.ended_at),
            "webhook_sent_at": datetime.now(UTC).isoformat(),
            "values": wire.decode(result_of(owed.values, None, owed.interrupts)),
            "error": told,
        }
    )


def search(service: Service, state: DeliveryState, *, limit: int) -> list[Run]:
    """Runs whose webhook is pending, those due first, or failed, the newest first. Those delivered are not listed."""
    found = service.store.do_all([calls.listed(at, state, limit=limit) for at in service.keys.all()])
    in_order = sorted((pair for batch in found for pair in batch), key=lambda pair: pair[1], reverse=state == "failed")
    read = service.store.do_all([runs.get(service.keys, run_id) for run_id, _ in in_order[:limit]])
    return [run for run in read if run is not None]


def resend(service: Service, run_id: str) -> Run:
    """Deliver a run's webhook anew, whatever came of it before. The receiver sees a new ``webhook-id``; of a webhook
    that was delivered, the values are those its thread has now. Raises RunNotFound, and InvalidTransition for a run
    that has not ended or has no webhook."""
    run = service.get_run(run_id)
    if not run.request.webhook:
        raise InvalidTransition("The run has no webhook.")
    service.store.do(calls.resend(service.keys, run))
    service.wake([wake_of(run.run_id, run.queue)])
    return service.get_run(run_id)
