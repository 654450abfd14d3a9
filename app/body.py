"""Request bodies: JSON that is read strictly, with limits, and refused in words a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson
from flask import Request
from marshmallow import Schema, ValidationError, missing
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge

from runyard.app import here
from runyard.app.errors import WrongContentType
from runyard.engine import wire
from runyard.engine.errors import InvalidInput, TooLarge

#: Deeper than any state a person wrote, and shallow enough for every encoder behind us.
MAX_DEPTH = 200
#: As many faults of one body are told at once.
MAX_FAULTS = 5

_OPENING = re.compile(rb"[\[{]")


def read(request: Request) -> Any:
    """The JSON of a request's body; ``missing`` when there is none. Raises InvalidInput, WrongContentType."""
    data = request.get_data(cache=False)
    if request.content_length is None and len(data) >= (request.max_content_length or len(data) + 1):
        raise RequestEntityTooLarge  # a body without a length: werkzeug stops reading and does not say so
    if not data:
        return missing
    if request.mimetype and not request.is_json:
        raise WrongContentType(f"Content-Type is {request.mimetype!r}; send JSON as application/json.")
    return parse(data)


def parse(data: bytes) -> Any:
    """JSON text as a value. Raises InvalidInput that says where it goes wrong."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"The body is not valid JSON, at line {error.lineno} column {error.colno}: {error.msg}."
        ) from None
    if _may_be_deep(data) and is_deeper(value, MAX_DEPTH):
        raise InvalidInput(f"The body is nested more than {MAX_DEPTH} levels deep, which is more than is accepted.")
    return value


def _may_be_deep(data: bytes) -> bool:
    return len(data) > 2 * MAX_DEPTH and len(_OPENING.findall(data)) > MAX_DEPTH


def is_deeper(value: Any, levels: int) -> bool:
    """Whether ``value`` is nested more than ``levels`` deep. Level by level, so that no depth can exhaust the stack."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for item in layer
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return False
    return True


def check_sizes(request: Request, body: dict[str, Any], names: Iterable[str], *, most: int, setting: str) -> None:
    """Raise TooLarge for a field of a body that is larger than ``most`` bytes of JSON. A small body costs nothing."""
    if request.content_length is not None and request.content_length <= most:
        return
    for name in names:
        if (size := len(wire.encode(body.get(name)))) > most:
            raise TooLarge(f"{name}: at most {most} bytes of JSON are accepted ({setting}), not {size}.")


class Parser(FlaskParser):
    """webargs with our reader and our words."""

    def get_default_request(self) -> Request:
        return here.request()

    def load_json(self, req: Request, schema: Schema) -> Any:  # noqa: ARG002
        return read(req)

    def handle_error(self, error: ValidationError, req: Request, schema: Schema, **_: Any) -> NoReturn:  # noqa: ARG002
        raise InvalidInput(sentence(error.messages))


def sentence(messages: Any) -> str:
    """marshmallow's tree of messages as one line: ``config.tags: must be a list of text, not 5; …``."""
    inner = next(iter(messages.values())) if isinstance(messages, dict) and len(messages) == 1 else messages
    faults = list(_faults(inner, ()))
    more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return "; ".join(faults[:MAX_FAULTS]) + more


def _faults(messages: Any, path: tuple[str, ...]) -> list[str]:
    if isinstance(messages, dict):
        return [fault for key, inner in messages.items() for fault in _faults(inner, (*path, str(key)))]
    if isinstance(messages, list):
        return [fault for inner in messages for fault in _faults(inner, path)]
    named = ".".join(part for part in path if part != "_schema")
    return [f"{named or 'body'}: {messages}"]
