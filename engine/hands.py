"""How many workers there are for a queue, as far as their signs of life say."""

from __future__ import annotations

import time
from collections import Counter

from runyard.engine.store import recovery
from runyard.engine.store.client import AsyncStore
from runyard.engine.store.keys import Keys

#: What was seen is believed for so long, in seconds: workers come and go with deploys, not with runs.
FRESH_S = 2.0


class Hands:
    """One for each process; belongs to its event loop."""

    def __init__(self, store: AsyncStore, keys: Keys) -> None:
        self._store, self._keys = store, keys
        self._seen_at = float("-inf")
        self._seen: Counter[str] = Counter()

    async def of(self, queue: str) -> int:
        """How many workers that live take from a queue; two round trips when that was not asked lately.

        Raises StoreUnavailable.
        """
        if time.monotonic() - self._seen_at > FRESH_S:
            self._seen, self._seen_at = await self._look(), time.monotonic()
        return self._seen[queue]

    async def _look(self) -> Counter[str]:
        now_ms, known = await self._store.do_all([recovery.clock(), recovery.workers(self._keys)])
        living = [worker_id for worker_id, beat_ms in known.items() if now_ms - beat_ms <= recovery.WORKER_GONE_MS]
        found = await self._store.do_all([recovery.worker(self._keys, worker_id) for worker_id in living])
        return Counter(queue for facts in found for queue in facts.get("queues", "").split(","))
