"""A client of server-sent events that costs little: one connection each, no dependencies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from bench.http_client import HttpError


@dataclass(frozen=True, slots=True)
class Heard:
    """``at``: the wall clock when its last byte was here."""

    name: str
    data: bytes
    at: float

    def json(self) -> Any:
        return orjson.loads(self.data)


class Reader:
    """One stream, from its request to its end. ``async with`` sends it and waits for the headers."""

    def __init__(self, port: int, method: str, path: str, body: Any = None) -> None:
        self._port, self._head = port, f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        self._body = orjson.dumps(body) if body is not None else b""
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        length = f"Content-Type: application/json\r\nContent-Length: {len(self._body)}\r\n\r\n"
        self._writer.write((self._head + length).encode() + self._body)
        said = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if (status := int(said.split()[1])) != 200:
            raise HttpError(status, said.encode())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    async def heard(self) -> AsyncIterator[Heard]:
        """Events as they come; heartbeats are left out."""
        kept = b""
        while size := int((await self._reader.readline()).split(b";")[0], 16):
            kept += await self._reader.readexactly(size)
            await self._reader.readline()
            while b"\n\n" in kept:
                frame, _, kept = kept.partition(b"\n\n")
                if (event := _event(frame)) is not None:
                    yield event


def _event(frame: bytes) -> Heard | None:
    lines = dict(line.partition(b": ")[::2] for line in frame.split(b"\n") if not line.startswith(b":"))
    return Heard(lines[b"event"].decode(), lines.get(b"data", b""), time.time()) if b"event" in lines else None
