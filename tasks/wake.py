"""Sending wake-ups: the one thing that turns the engine's words into Celery messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from runyard.engine.run import Wake

log = structlog.get_logger(__name__)
ADVANCE, BRANCH, WEBHOOK = "runyard.advance", "runyard.branch", "runyard.webhook"
#: What a broker that is away raises, by transport.
BROKER_AWAY = (OperationalError, KombuError, RedisError, OSError)


class RunFailed(Exception):
    """Why a run has failed for good, so that its task is seen to have failed. Nothing is done again for it."""

    def __repr__(self) -> str:  # what Flower shows
        return str(self)


class Waker:
    """Publishes wake-ups. A wake-up that cannot be sent is logged, not raised: the run is recorded, and recovery finds
    it. Blocking (about 0.5 ms each): call it from a thread."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __call__(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            try:
                self._send(wake)
            except BROKER_AWAY as error:
                log.warning("wake.not_sent", run_id=wake.run_id, queue=wake.queue, error=str(error))

    def queue_depth(self, queue: str) -> int | None:
        """Messages that wait in a queue, or None when the broker cannot say."""
        try:
            with self._app.pool.acquire(block=True, timeout=2) as connection:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except BROKER_AWAY:
            return None
        except self._app.connection_for_read().channel_errors:
            return 0  # a queue that no worker has declared yet holds nothing

    def _send(self, wake: Wake) -> None:
        self._app.send_task(**message_of(wake), retry=False)


def message_of(wake: Wake) -> dict[str, Any]:
    """A wake-up in Celery's words."""
    name, args = (BRANCH, (wake.run_id, wake.branch)) if wake.branch else (ADVANCE, (wake.run_id,))
    if wake.webhook:
        name = WEBHOOK
    shown = wake.label and f"{wake.label}.webhook" if wake.webhook else wake.label
    return {
        "name": name,
        "args": args,
        "queue": wake.queue,
        "shadow": shown or None,
        "argsrepr": ", ".join(args),
        "kwargsrepr": "",
    }
