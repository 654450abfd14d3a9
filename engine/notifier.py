"""Sends notices from a worker's event loop: some at once, each at least once, each attempt accounted for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

import structlog

from runyard.engine import metrics
from runyard.engine.background import Background
from runyard.engine.errors import StoreUnavailable
from runyard.engine.notices import Notify, Target, body_of, plain_text
from runyard.engine.store import notices as calls
from runyard.engine.store.client import AsyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.notices import Owed
from runyard.engine.webhooks import Delivered, NotDelivered, Verdict, Webhooks, backoff_s

log = structlog.get_logger(__name__)

#: So many are sent at once, each in at most so many seconds; on top of that its sender is taken for lost, in ms.
AT_ONCE, TIMEOUT_S, GRACE_MS = 8, 30.0, 5_000

#: Given by whoever wires the process: sends a title and a text to an address of apprise; answers what went wrong or "".
SendText = Callable[[str, str, str], Awaitable[str]]


class Notifier:
    """One per worker process. Used on its event loop."""

    def __init__(
        self, store: AsyncStore, keys: Keys, notify: Notify, webhooks: Webhooks, background: Background, send: SendText
    ) -> None:
        self._store, self._keys, self._webhooks, self._background = store, keys, webhooks, background
        self._targets, self._send_text = notify.targets, send
        self._in_hand: set[str] = set()

    def send(self, delivery_ids: Sequence[str]) -> None:
        """Begin to send what is due; what there is no room for is due the next time as well."""
        for delivery_id in delivery_ids:
            if len(self._in_hand) >= AT_ONCE:
                return
            if delivery_id not in self._in_hand:
                self._in_hand.add(delivery_id)
                self._background.add(self._deliver(delivery_id))

    async def _deliver(self, delivery_id: str) -> None:
        nonce = secrets.token_hex(8)
        try:
            lease_ms = round(TIMEOUT_S * 1000) + GRACE_MS
            owed = await self._store.do(calls.claim(self._keys, delivery_id, nonce=nonce, lease_ms=lease_ms))
            if owed is not None:
                verdict = await self._attempt(owed)
                await self._store.do(calls.settle(self._keys, delivery_id, nonce, verdict))
                self._note(owed, verdict)
        except StoreUnavailable as error:
            log.warning("notice.store_away", id=delivery_id, error=str(error))
        finally:
            self._in_hand.discard(delivery_id)

    async def _attempt(self, owed: Owed) -> Verdict:
        target = self._targets.get(owed.target)
        if target is None:
            return NotDelivered("its address is not in the configuration any more", None)
        if target.is_webhook:
            body = body_of(owed.told, owed.more)
            return await self._webhooks.send(target.address, body, delivery_id=owed.id, attempt=owed.attempt)
        return await self._tell(target, owed)

    async def _tell(self, target: Target, owed: Owed) -> Verdict:
        title, text = str(owed.told["title"]), plain_text(owed.told, owed.more)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                problem = await self._send_text(target.address, title, text)
        except TimeoutError:
            problem = f"no answer within {TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001 - whatever one of a hundred services' plugins raises
            problem = f"{type(error).__name__}: {error}"[:300]
        if not problem:
            return Delivered(200)
        is_last = owed.attempt >= self._webhooks.policy.attempts
        return NotDelivered(problem, None if is_last else backoff_s(owed.attempt))

    def _note(self, owed: Owed, verdict: Verdict) -> None:
        facts = {"id": owed.id, "kind": owed.told["kind"], "target": owed.target, "attempt": owed.attempt}
        if isinstance(verdict, Delivered):
            metrics.inc("runyard_notices_sent_total", "delivered")
            log.info("notice.delivered", **facts)
            return
        is_over = verdict.retry_s is None
        metrics.inc("runyard_notices_sent_total", "failed" if is_over else "tried")
        again = None if verdict.retry_s is None else round(verdict.retry_s, 1)
        log.warning("notice.not_delivered", problem=verdict.problem, again_in_s=again, **facts)
