"""Requests and traces: whose trace a request is of, and which its answer names."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from runyard.tasks.tracing import Tracing, traceparent_of


def register(app: Flask, tracing: Tracing | None) -> None:
    """Keep a client's ``traceparent`` for the run that its request makes; where requests are traced, its span's."""
    app.before_request(_keep if tracing is None else lambda: _begin(tracing))
    app.after_request(_answer if tracing is None else lambda response: _end(tracing, response))


def _keep() -> None:
    if (header := request.headers.get("traceparent")) and (kept := traceparent_of(header)):
        g.trace = kept


def _answer(response: Response) -> Response:
    if "trace" in g:
        response.headers["traceparent"] = g.trace
    return response


def _begin(tracing: Tracing) -> None:
    g.span_began = time.time_ns()
    g.span, g.trace = tracing.request(request.headers.get("traceparent", ""), _name())


def _end(tracing: Tracing, response: Response) -> Response:
    if "span" in g:
        route = str(request.url_rule) if request.url_rule else None
        tracing.answered(
            g.span, request.headers.get("traceparent", ""), _name(), g.span_began, response.status_code,
            **{"http.request.method": request.method, "http.route": route, "url.path": request.path,
               "url.scheme": request.scheme},
        )  # fmt: skip
    return _answer(response)


def _name() -> str:
    """As the conventions name a server's span: a path would be a name of its own for every run."""
    return f"{request.method} {request.url_rule}" if request.url_rule else request.method
