"""The request that is being handled, and what is kept for it, looked up once.

Flask's names for them are proxies, which look it up anew for each attribute that they are asked for.
"""

from __future__ import annotations

from typing import Any, cast

import flask


def request() -> flask.Request:
    return cast(flask.Request, _behind(flask.request))


def kept() -> Any:
    """Flask's ``g``."""
    return _behind(flask.g)


def _behind(proxy: Any) -> Any:
    return proxy._get_current_object()  # noqa: SLF001 - public, as werkzeug documents it
