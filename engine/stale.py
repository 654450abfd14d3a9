"""The last good result of a node, kept for when the node fails: a fallback that is old, and says how old.

Kept by graph, node and what the node was given (or the part of it that the policy names), for each tenant, and no more
than so many for one node. It is a cache: what cannot be kept is not kept, and a run never fails for it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import structlog
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import PregelExecutableTask

from runyard.engine import wire
from runyard.engine.errors import StoreUnavailable, Unserializable
from runyard.engine.policy import Stale
from runyard.engine.run import Run
from runyard.engine.store import serde as codec
from runyard.engine.store.client import AsyncStore, Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

log = structlog.get_logger(__name__)

#: Results larger than this are not kept, in bytes.
LARGEST = 256 * 1024
#: So many results of one node are kept; the oldest goes first.
MOST = 1000


class NothingKept(Exception):
    """No result of this node is kept that is young enough."""


class Kept:
    """The results that one run may keep and be given."""

    def __init__(self, store: AsyncStore, keys: Keys, run: Run, serde: SerializerProtocol) -> None:
        self._store, self._keys, self._run, self._serde = store, keys, run, serde

    async def remember(self, task: PregelExecutableTask, stale: Stale, result: Any) -> None:
        """Keep what an attempt gave."""
        if result is None:
            return
        try:
            data = codec.encode(self._serde, task.name, result)
            if len(data) > LARGEST:
                log.warning("stale.too_large", graph_id=self._run.graph_id, node=task.name, bytes=len(data))
                return
            keys = self._keys_of(task, stale)
            kept = self._keys.seal(data, keys[0].rpartition(":")[2])
            await self._store.do(Call(script("put_stale"), keys, (kept, round(stale.max_age_s * 1000), MOST)))
        except (Unserializable, StoreUnavailable) as error:
            log.warning("stale.not_kept", graph_id=self._run.graph_id, node=task.name, error=str(error))

    async def recall(self, task: PregelExecutableTask, stale: Stale) -> tuple[Any, float]:
        """What was kept, and how many seconds ago. Raises NothingKept."""
        keys = self._keys_of(task, stale)
        found: Any = await self._store.do(Call(script("get_stale"), keys[:1], ()))
        if found is None or int(found[0]) > stale.max_age_s * 1000:
            raise NothingKept
        return codec.decode(self._serde, found[1]), int(found[0]) / 1000

    def _keys_of(self, task: PregelExecutableTask, stale: Stale) -> tuple[str, str]:
        where = json.dumps([self._run.tenant, self._run.graph_id, task.name])
        at = self._keys.all()[zlib.crc32(where.encode()) % self._keys.partitions]
        node = hashlib.sha256(where.encode()).hexdigest()[:32]
        return at.stale_result(node, self._digest(task, stale)), at.stale(node)

    def _digest(self, task: PregelExecutableTask, stale: Stale) -> str:
        given = wire.decode(wire.encode(task.input))
        if stale.key is not None:
            known = given if isinstance(given, Mapping) else {}
            about: Any = [known.get(name) for name in stale.key]
        else:
            request = self._run.request
            about = [given, request.config.get("configurable", {}), request.context]
        text = json.dumps(wire.decode(wire.encode(about)), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]
