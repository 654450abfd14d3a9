"""What a graph has streamed and its reader has not taken yet. A run that waits keeps LangGraph's queue for as long."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from langgraph.pregel import main


class StreamQueue:
    """What LangGraph uses of its ``AsyncQueue``, for one reader. An empty one takes 0.1 kB, and LangGraph's 3.1.

    Belongs to one event loop.
    """

    __slots__ = ("_parts", "_waits")

    def __init__(self) -> None:
        #: None when there is nothing: an empty deque is larger than all else here.
        self._parts: deque[Any] | None = None
        self._waits: asyncio.Future[None] | None = None

    def put_nowait(self, part: Any) -> None:
        if self._parts is None:
            self._parts = deque()
        self._parts.append(part)
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)

    def get_nowait(self) -> Any:
        """The first part. Raises asyncio.QueueEmpty."""
        if not self._parts:
            self._parts = None
            raise asyncio.QueueEmpty
        return self._parts.popleft()

    async def wait(self) -> None:
        """Return once there is a part."""
        while not self._parts:
            self._waits = asyncio.get_running_loop().create_future()
            await self._waits


#: `astream` makes one by this name, and gives nobody a say in it.
main.AsyncQueue = StreamQueue  # type: ignore[attr-defined]
