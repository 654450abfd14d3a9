"""Ids in paths. What is not a UUID is refused by name; upper case is the same id."""

from __future__ import annotations

import re
import uuid
from typing import Any

from flask import Flask
from flask_smorest import Api
from werkzeug.routing import BaseConverter

from runyard.app.errors import BadPath

NAMES = ("thread", "run", "assistant", "checkpoint", "cron")
_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def canonical(value: object) -> str | None:
    """The one text form of a UUID that is used in keys, or None for anything else."""
    if not isinstance(value, str):
        return None
    if _CANONICAL.fullmatch(value):  # as nearly all are
        return value
    try:
        text = str(uuid.UUID(value))
    except ValueError:
        return None
    return text if value.lower() in (text, text.replace("-", "")) else None


class IdConverter(BaseConverter):
    name = ""

    def to_python(self, value: str) -> str:
        found = canonical(value)
        if found is None:
            shown = value if len(value) <= 60 else value[:57] + "..."
            raise BadPath(f"{self.name}_id: must be a UUID, not {shown!r}")
        return found


def register(app: Flask, api: Api) -> None:
    """Make ``<thread:thread_id>`` and its like known to routes and to OpenAPI."""
    for name in NAMES:
        converter = type(f"{name.title()}Id", (IdConverter,), {"name": name})
        app.url_map.converters[name] = converter
        api.register_converter(converter, _describe)


def _describe(_: Any) -> dict[str, str]:
    return {"type": "string", "format": "uuid"}
