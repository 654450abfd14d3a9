"""A request for authenticators that were written for an ASGI server: the part of Starlette's Request that they read."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Request


class Url(NamedTuple):
    scheme: str
    hostname: str
    path: str
    query: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.hostname}{self.path}" + (f"?{self.query}" if self.query else "")


class AsgiRequest:
    """Read at once, since handlers run on another thread than the one that has the connection."""

    def __init__(self, given: Request) -> None:
        self.method, self.headers, self.cookies = given.method, given.headers, given.cookies
        self.path_params, self.query_params = dict(given.view_args or {}), given.args
        self.url = Url(given.scheme, given.host, given.path, given.query_string.decode("latin-1"))
        self.scope = {"type": "http", "method": given.method, "path": given.path, "path_params": self.path_params}
        self._given = given

    async def body(self) -> bytes:
        return self._given.get_data()

    async def json(self) -> Any:
        return self._given.get_json(silent=True)
