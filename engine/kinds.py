"""What a type hint plainly asks of a JSON value. What is not plain is the graph's to judge."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import typing_extensions
from pydantic import BaseModel

from runyard.engine import wire

#: A test of a JSON value, and what it accepts in words.
Kind = tuple[Callable[[Any], bool], str]

_WRAPPERS = (Required, NotRequired, typing_extensions.Required, typing_extensions.NotRequired)


def shown(value: Any) -> str:
    """A value as JSON, shortened so that an answer stays a sentence."""
    text = wire.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PLAIN: dict[Any, Kind] = {
    str: (lambda v: isinstance(v, str), "text"),
    bool: (lambda v: isinstance(v, bool), "true or false"),
    # JavaScript writes 1.0 as 1 and cannot tell them apart.
    int: (lambda v: _is_number(v) and v % 1 == 0, "a whole number"),
    float: (_is_number, "a number"),
    list: (lambda v: isinstance(v, list), "a list"),
    dict: (lambda v: isinstance(v, dict), "an object"),
    type(None): (lambda v: v is None, "null"),
}


def is_model(schema: Any) -> bool:
    """Whether it is a pydantic model, which turns values into what it wants."""
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def kinds_of(schema: Any, stored: set[str]) -> dict[str, Kind]:
    """For each key that is stored as it is given, the kind of JSON value its annotation plainly asks for."""
    try:
        hints = typing.get_type_hints(schema, include_extras=True)
    except Exception:  # noqa: BLE001 - names only a type checker knows: then nothing is certain
        return {}
    found = {name: kind_of(hint) for name, hint in hints.items() if name in stored}
    return {name: kind for name, kind in found.items() if kind is not None}


def kind_of(hint: Any) -> Kind | None:
    """The kind a type hint plainly asks for, or None when it could be anything."""
    origin = get_origin(hint)
    if origin in _WRAPPERS or origin is Annotated:
        return kind_of(get_args(hint)[0])
    if origin is Literal:
        allowed = get_args(hint)
        return (lambda v: v in allowed), " or ".join(map(shown, allowed))
    if origin in (Union, types.UnionType):
        return _any_of([kind_of(part) for part in get_args(hint)])
    return _PLAIN.get(origin or hint)


def _any_of(kinds: list[Kind | None]) -> Kind | None:
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):
        return None
    return (lambda v: any(fits(v) for fits, _ in known)), " or ".join(accepted for _, accepted in known)
