"""What an agent of the Agent2Agent protocol does, as server-sent events: a coroutine of the relay's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from runyard.app import a2a, json_rpc
from runyard.app.sse import HEARTBEAT, Kept, Parts, follow, frame
from runyard.engine import wire
from runyard.engine.live import Live
from runyard.engine.run import Run
from runyard.engine.store import events
from runyard.engine.store.events import Event

Json = dict[str, Any]


class Teller:
    """Turns a run's events into updates of its task; what the agent says is told as far as it has come."""

    def __init__(self, run: Run, message_id: Any) -> None:
        self._run, self._message_id = run, message_id
        self._said: dict[str, str] = {}

    def frame(self, told: Json) -> bytes:
        return frame("message", wire.encode(json_rpc.result(self._message_id, told)))

    def token(self, event: Event) -> bytes:
        chunk = wire.decode(event.data)[0]
        if chunk.get("type") != "AIMessageChunk" or not (text := a2a.text_of(chunk.get("content"))):
            return b""
        named = str(chunk.get("id"))
        self._said[named] = self._said.get(named, "") + text
        return self.frame(a2a.update(self._run, "working", self._said[named]))

    def end(self, result: bytes, *, cancelled: bool) -> bytes:
        told = a2a.ended(self._run, wire.decode(result))
        status = {**told["status"], **({"state": "canceled"} if cancelled else {})}
        return b"".join(map(self.frame, self._last(told, status)))

    def _last(self, told: Json, status: Json) -> Iterator[Json]:
        for artifact in told.get("artifacts", ()):
            yield a2a.artifact_update(self._run, artifact)
        yield {**a2a.update(self._run, status["state"], final=True), "status": status}


async def stream(live: Live, run: Run, message: Json, kept: Kept, message_id: Any) -> Parts:
    """A task from the message that began it to its end."""
    teller = Teller(run, message_id)
    yield teller.frame(a2a.received(run, message))
    async with aclosing(follow(live, run, events.START)) as parts:
        async for some in parts:
            told = [teller.token(event) for event in some if event.name == "messages"]
            if some and some[-1].name == events.END:
                result = events.result_in(some[-1]) or await asyncio.to_thread(kept, some[-1])
                cancelled = wire.decode(some[-1].data).get("status") == "interrupted"
                told.append(teller.end(result, cancelled=cancelled))
            if whole := b"".join(told) or (b"" if some else HEARTBEAT):
                yield whole
