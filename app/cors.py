"""Cross-origin rules: open as LangGraph's server is, or as ``http.cors`` of langgraph.json says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, request
from werkzeug.datastructures import Headers

#: Without these a browser cannot learn a run's id, reconnect to a stream, or turn pages.
EXPOSED = (
    *("content-location", "location", "x-pagination-total", "x-pagination-next"),
    *("x-request-id", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining"),
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    origins: tuple[str, ...] = ("*",)
    origin_pattern: re.Pattern[str] | None = None
    methods: tuple[str, ...] = ("*",)
    headers: tuple[str, ...] = ("*",)
    expose: tuple[str, ...] = EXPOSED
    credentials: bool = False
    max_age_s: int = 600

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Cors:
        """From the ``cors`` object of langgraph.json's ``http`` section."""
        pattern = config.get("allow_origin_regex")
        closed = ("allow_origins" in config) or pattern
        return cls(
            origins=tuple(config.get("allow_origins") or ()) if closed else ("*",),
            origin_pattern=re.compile(pattern) if pattern else None,
            methods=tuple(config.get("allow_methods") or ("*",)),
            headers=tuple(config.get("allow_headers") or ("*",)),
            expose=tuple(dict.fromkeys([*EXPOSED, *map(str.lower, config.get("expose_headers") or ())])),
            credentials=bool(config.get("allow_credentials")),
            max_age_s=int(config.get("max_age", 600)),
        )

    def allowed(self, origin: str) -> str | None:
        """What to answer an origin with; None when it is not allowed."""
        if "*" in self.origins:
            # A browser takes no star along with credentials.
            return origin if self.credentials else "*"
        known = origin in self.origins or (self.origin_pattern and self.origin_pattern.fullmatch(origin))
        return origin if known else None

    def mark(self, headers: Headers, origin: str) -> None:
        if "*" not in self.origins or self.credentials:
            headers.add("Vary", "Origin")
        if allowed := self.allowed(origin):
            headers["Access-Control-Allow-Origin"] = allowed
            headers["Access-Control-Expose-Headers"] = ", ".join(self.expose)
            if self.credentials:
                headers["Access-Control-Allow-Credentials"] = "true"

    def mark_preflight(self, headers: Headers, asked: str) -> None:
        everything = METHODS if "*" in self.methods else self.methods
        headers["Access-Control-Allow-Methods"] = ", ".join(everything)
        headers["Access-Control-Allow-Headers"] = asked or "*" if "*" in self.headers else ", ".join(self.headers)
        headers["Access-Control-Max-Age"] = str(self.max_age_s)


def register(app: Flask, cors: Cors) -> None:
    """Mark every answer to another origin."""

    def mark(response: Response) -> Response:
        if origin := request.headers.get("Origin"):
            cors.mark(response.headers, origin)
            if request.method == "OPTIONS" and "Access-Control-Allow-Origin" in response.headers:
                cors.mark_preflight(response.headers, request.headers.get("Access-Control-Request-Headers", ""))
        return response

    app.after_request(mark)
