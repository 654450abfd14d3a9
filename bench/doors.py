"""The way into Runyard that a client takes: LangGraph's server API over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from bench import workloads
from bench.http_client import Pool


class Door:
    """Every run gets a thread of its own, which is kept."""

    def __init__(self, port: int) -> None:
        self._pool = Pool("127.0.0.1", port)

    async def wait(self, graph: str) -> Any:
        """Start a run and give its result, in one request."""
        return await self._pool.ask("POST", f"/threads/{uuid.uuid4()}/runs/wait", _body(graph))

    async def start(self, graph: str) -> dict[str, Any]:
        """Start a run: what the server says of it when it was accepted."""
        run: dict[str, Any] = await self._pool.ask("POST", f"/threads/{uuid.uuid4()}/runs", _body(graph))
        return run

    async def join(self, run: dict[str, Any]) -> Any:
        """The result of a run."""
        return await self._pool.ask("GET", f"/threads/{run['thread_id']}/runs/{run['run_id']}/join")

    async def close(self) -> None:
        self._pool.close()


def _body(graph: str) -> dict[str, Any]:
    return {"assistant_id": graph, "input": workloads.GIVEN[graph], "if_not_exists": "create"}
