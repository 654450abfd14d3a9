"""Whether this installation can carry out runs: not that processes exist, but that work is taken."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from runyard.app.wiring import Wiring
from runyard.engine.errors import StoreUnavailable

#: A run that has waited this long while a worker had room was overlooked.
DEAF_AFTER_MS = 10_000


def problems(wiring: Wiring) -> list[str]:
    """What stands in the way, in sentences; empty when the installation is ready."""
    try:
        workers = wiring.service.workers()
        waits_ms = wiring.service.waits_ms(DEAF_AFTER_MS)
        gone = [] if serving(workers, wiring.settings.queue) else wiring.service.workers(gone=True)
    except StoreUnavailable as error:
        return [str(error)]
    found = []
    if wiring.queue_depth(wiring.settings.queue) is None:
        found.append("The broker does not answer.")
    found += [
        f"Worker {facts['id']} is gone or does not move, last heard of {int(facts['quiet_ms']) / 1000:.0f} s ago."
        for facts in serving(gone, wiring.settings.queue)
    ]
    queue = wiring.settings.queue
    return found + of_workers(
        workers, queue, waits_ms.get(queue, 0), wiring.settings.concurrency, time.time_ns() // 1_000_000
    )


def serving(workers: list[dict[str, str]], queue: str) -> list[dict[str, str]]:
    """Those of ``workers`` that take what waits in ``queue``."""
    return [facts for facts in workers if queue in facts.get("queues", "").split(",")]


def of_workers(workers: list[dict[str, str]], queue: str, waited_ms: int, concurrency: int, now_ms: int) -> list[str]:
    """What is wrong with the workers of ``queue``, whose oldest run has waited ``waited_ms``."""
    able = serving(workers, queue)
    if not able:
        return [f"No worker serves the queue {queue!r}."]
    if waited_ms <= DEAF_AFTER_MS:
        return []
    deaf = [facts["id"] for facts in able if _is_deaf(facts, concurrency, now_ms)]
    if len(deaf) < len(able):
        return []
    names = ", ".join(deaf)
    return [f"A run has waited for {waited_ms / 1000:.0f} s; no worker takes anything though it has room: {names}."]


def _is_deaf(facts: Mapping[str, Any], concurrency: int, now_ms: int) -> bool:
    """Whether a worker had room and time to take something and did not."""
    if int(facts.get("in_hand") or 0) >= int(facts.get("capacity") or concurrency):
        return False
    last_ms = max(int(facts.get("took_at") or 0), int(facts.get("started_at") or 0))
    return now_ms - last_ms > DEAF_AFTER_MS
