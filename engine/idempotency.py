"""Requests that may be sent twice and must start one run: by a key that the client makes up for each.

The key is looked up, and kept with the run it made, inside the script that records the run: of racing duplicates one
makes the run and the others are given it.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from runyard.engine.ids import new_thread_id, partition_of_thread

KEPT_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Idempotency:
    """``name`` is where the key is kept, ``digest`` what the request was. Neither tells the key or the request."""

    name: str
    digest: str

    @classmethod
    def of(cls, key: str, request: Any, *, tenant: str, thread_id: str = "") -> Idempotency:
        """For a request (JSON) on a thread that the client named, or on none. Other tenants and threads have keys of
        their own."""
        text = orjson.dumps(request, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        return cls(_sha(f"{tenant}\0{thread_id}\0{key}".encode()), _sha(text))

    def new_thread_id(self, partitions: int) -> str:
        """An id for a thread that the server makes, in the partition where the key is looked up: duplicates must meet.

        About as many tries as there are partitions.
        """
        home = zlib.crc32(self.name.encode()) % partitions
        while True:
            thread_id = new_thread_id()
            if partition_of_thread(thread_id, partitions) == home:
                return thread_id


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
