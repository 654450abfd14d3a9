"""An HTTP client that costs the measured machine as little as possible: one connection, kept open, no dependencies.

A general client takes about a millisecond of a core for each request, which would be measured with the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson


class HttpError(RuntimeError):
    """An answer that was not 2xx."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body[:300].decode(errors='replace')}")
        self.status = status


class Connection:
    """One request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Send a request, give the JSON of its answer. Raises HttpError."""
        sent = orjson.dumps(body) if body is not None else b""
        status, data = await self._exchange(method, path, sent, headers or {})
        if not 200 <= status < 300:
            raise HttpError(status, data)
        return orjson.loads(data) if data.strip() else None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """A kept connection may be closed by the server, which has had enough of it, just as it is used again: then
        nothing was read of the request, and a new one takes it."""
        kept = self._writer is not None and self._reader is not None and not self._reader.at_eof()
        try:
            return await self._send(method, path, body, headers)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if not kept or getattr(error, "partial", b""):
                raise
            self.close()
            return await self._send(method, path, body, headers)

    async def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if self._writer is None or self._reader is None or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**24)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await self._answer(self._reader)

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        data = await _body(reader, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(head[0].split()[1]), data


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(parts)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


class Pool:
    """As many connections as are in use at once."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: list[Connection] = []

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self._one() as connection:
            return await connection.ask(method, path, body)

    def close(self) -> None:
        for connection in self._free:
            connection.close()

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[Connection]:
        connection = self._free.pop() if self._free else Connection(self._host, self._port)
        try:
            yield connection
        except HttpError:
            self._free.append(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._free.append(connection)
