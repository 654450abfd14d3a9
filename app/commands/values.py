"""What people type: JSON, ids, event ids. Each type says which form it accepts."""

from __future__ import annotations

import re
import sys
import uuid
from pathlib import Path
from typing import Any

import click
import orjson

_EVENT_ID = re.compile(r"\d{1,15}-\d{1,19}")
_JSON_WORDS = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


class Json(click.ParamType[Any]):
    """JSON as it stands, ``@file`` for a file's content, ``-`` for stdin."""

    name = "JSON|@file|-"

    def __init__(self, *, only_object: bool = False) -> None:
        self._only_object = only_object

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        text, place = self._read(value, param, ctx)
        try:
            read = orjson.loads(text)
        except orjson.JSONDecodeError as problem:
            where = f"line {problem.lineno} column {problem.colno}"
            self.fail(f"{place}not valid JSON at {where}: {problem.msg}", param, ctx)
        if self._only_object and not isinstance(read, dict):
            self.fail(f"{place}must be a JSON object, not {_kind(read)}", param, ctx)
        return read

    def _read(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[bytes, str]:
        if value == "-":
            return sys.stdin.buffer.read(), "stdin: "
        if not value.startswith("@"):
            return value.encode("utf-8", "surrogateescape"), ""
        try:
            return Path(value[1:]).read_bytes(), f"{value[1:]}: "
        except OSError as problem:
            self.fail(f"{value[1:]!r} cannot be read: {problem.strerror}", param, ctx)


class Id(click.ParamType[str]):
    """An id of a run or a thread: a UUID."""

    name = "UUID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(uuid.UUID(value))
        except (ValueError, AttributeError):
            self.fail(f"{value!r} is not a UUID, like 0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55", param, ctx)


class EventId(click.ParamType[str]):
    """Where to go on reading: an event's id as ``events --json`` prints it."""

    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _EVENT_ID.fullmatch(value):
            self.fail(f"{value!r} is not an event's id, like 1763791200000-0", param, ctx)
        return str(value)


def check_config(ctx: click.Context, param: click.Parameter, config: dict[str, Any] | None) -> dict[str, Any]:
    """A run's RunnableConfig, as far as the engine acts on it."""
    config = config or {}
    if not isinstance(config.get("configurable", {}), dict):
        raise click.BadParameter("configurable: must be an object", ctx, param)
    limit = config.get("recursion_limit", 1)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise click.BadParameter(f"recursion_limit: must be a whole number above 0, not {limit!r}", ctx, param)
    return config


def _kind(value: Any) -> str:
    return _JSON_WORDS.get(type(value), "null")
