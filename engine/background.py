"""Work that goes on beside the slices of a worker process and ends before it does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """One per process, on its event loop. What it is given must not raise what matters to anybody."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until nothing is left, also of what is added meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)
