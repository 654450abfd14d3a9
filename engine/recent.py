"""What a process keeps of the threads that it had in hand last, so as to read and write less of them the next time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class Recent:
    """Values that were used last, up to so many bytes together. For any thread.

    Nothing that is in here may be changed, and nothing may depend on its being here: another worker has the next turn,
    or memory is short.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        #: What is kept now, in bytes.
        self.size = 0

    def get(self, key: Hashable) -> Any:
        """What was put there last, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep ``value`` of about ``size`` bytes instead of what was there; what was used longest ago makes room."""
        with self._lock:
            self._drop(key)
            if size > self._most:
                return
            self._kept[key] = value, size
            self.size += size
            while self.size > self._most:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        _, size = self._kept.pop(key, (None, 0))
        self.size -= size
