"""Values on their way out: state, events and results as JSON, the way LangGraph's server writes them.

``encode`` never fails on a value it does not know: it falls back to ``repr``, because an event that cannot be written
must not fail a run whose node has done its work.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import deque
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import orjson
import zstandard

from runyard.engine import redact
from runyard.engine.errors import Recorded

if TYPE_CHECKING:
    from langgraph.types import Interrupt, Send

_OPTIONS = (
    orjson.OPT_NON_STR_KEYS
    | orjson.OPT_SERIALIZE_NUMPY
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
_PACK_FROM = 1024
#: Where values say what the graph asks.
INTERRUPT_KEY = "__interrupt__"
#: Nesting below this is written as text.
_DEEPEST = 100
#: Longest message of an exception that is kept and shown, in characters.
MOST_MESSAGE = 20_000


def encode(value: Any) -> bytes:
    """``value`` as UTF-8 JSON. Messages and other pydantic models become their fields, NaN becomes null."""
    try:
        return orjson.dumps(value, _default, _OPTIONS)
    except (TypeError, RecursionError):  # something that orjson refuses, or that raised while it was unfolded
        return orjson.dumps(_plain(value))


def decode(data: bytes | str) -> Any:
    return orjson.loads(data)


def with_asked(values: bytes, asked: list[Any]) -> bytes:
    """The JSON of values with what the graph asks, if it asks anything and they are an object."""
    if not asked or not values.startswith(b"{"):
        return values
    inside = values[1:-1]
    return b'{%b%b"%b":%b}' % (inside, b"," if inside.strip() else b"", INTERRUPT_KEY.encode(), encode(asked))


def pack_json(data: bytes) -> bytes:
    """JSON for keeping: compressed when that saves something. The first byte says which."""
    if len(data) >= _PACK_FROM:
        packed = zstandard.compress(data, 3)
        if len(packed) < len(data):
            return b"z" + packed
    return b"j" + data


def unpack_json(packed: bytes) -> bytes:
    """The JSON text inside a packed value."""
    return zstandard.decompress(packed[1:]) if packed[:1] == b"z" else packed[1:]


def error_of(error: BaseException) -> dict[str, str]:
    """An exception as clients see it: ``{"error": type name, "message": text}``, without what looks like a secret."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a user's own exception may raise anything while it is asked for its text
        message = ""
    name = error.name if isinstance(error, Recorded) else type(error).__name__
    return {"error": name, "message": redact.text(message, MOST_MESSAGE)}


@cache
def _types() -> tuple[type[Interrupt], type[Send]]:
    """LangGraph's types, loaded with the first value that JSON does not know: who only reads JSON needs none of it."""
    from langgraph.types import Interrupt, Send  # noqa: PLC0415

    return Interrupt, Send


def _default(value: Any) -> Any:  # noqa: C901, PLR0911, PLR0912 - one line for each kind of value is the clearest form
    interrupt, send = _types()
    if isinstance(value, interrupt):
        return {"value": value.value, "id": value.id}
    if isinstance(value, send):
        return {"node": value.node, "args": value.arg}
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    if hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BaseException):
        return error_of(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (tuple, list, AbstractSet, deque)):
        return list(value)
    if isinstance(value, (int, float)):
        return value.real
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(bytes(value)).decode()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return str(value)
    return repr(value)


def _plain(value: Any, above: tuple[int, ...] = ()) -> Any:  # noqa: PLR0911 - as below
    """``value`` with keys and text that JSON allows, integers that fit, and a bottom to its nesting."""
    if len(above) > _DEEPEST or id(value) in above:
        return _shown(value)
    below = (*above, id(value))
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, below) for key, item in value.items()}
    if isinstance(value, (list, tuple, AbstractSet, deque)) and not hasattr(value, "_asdict"):
        return [_plain(item, below) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(int(value))
    try:
        return orjson.Fragment(orjson.dumps(value, option=_OPTIONS))
    except TypeError:
        return _unfolded(value, below)


def _unfolded(value: Any, below: tuple[int, ...]) -> Any:
    try:
        return _plain(_default(value), below)
    except Exception:  # noqa: BLE001 - a user's own object may raise anything while it is asked for its fields
        return _shown(value)


def _key(key: Any) -> str:
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    return (key if isinstance(key, str) else _shown(key)).encode("utf-8", "replace").decode()


def _shown(value: Any) -> str:
    try:
        return repr(value).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - a user's own object may raise anything while it is shown
        return f"<{type(value).__name__}>"
