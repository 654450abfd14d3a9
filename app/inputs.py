"""Whether a graph could take an input at all, asked before a run is recorded.

Only what the graph would certainly refuse is refused: a value that is no object where the state has named keys, and a
value of the wrong plain kind under a key that is stored as it is given. What passes through a reducer, a validator of
the author's own or a type we do not know is the graph's to judge. A key may be missing: the thread may have it.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import typing_extensions
from langgraph.channels import LastValue
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, ValidationError

from runyard.app.schemas.fields import shown
from runyard.engine.errors import InvalidInput
from runyard.engine.worker import Graph

CheckInput = Callable[[Any], None]
#: A test of a JSON value, and what it accepts in words.
Kind = tuple[Callable[[Any], bool], str]

_ROOT = "__root__"
_WRAPPERS = (Required, NotRequired, typing_extensions.Required, typing_extensions.NotRequired)


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


def checker(graph: Graph) -> CheckInput:
    """A function that raises InvalidInput for an input that ``graph`` would certainly refuse. Made once per graph."""
    if not isinstance(graph, CompiledStateGraph):
        return lambda _: None  # the functional API: its input is any argument
    schema = graph.builder.input_schema
    channels = graph.builder.schemas.get(schema, {})
    if not channels or _ROOT in channels:
        return lambda _: None
    stored = {name for name, channel in channels.items() if type(channel) is LastValue}
    check = _model_check(schema, stored) if _is_model(schema) else _kinds_check(kinds_of(schema, stored))
    return lambda given: _check(given, sorted(channels), check)


def _check(given: Any, keys: list[str], check: Callable[[Mapping[str, Any]], None]) -> None:
    if given is None:
        return
    if not isinstance(given, dict):
        known = ", ".join(keys)
        raise InvalidInput(f"input: must be a JSON object with keys of the graph's state ({known}), not {shown(given)}")
    check(given)


def _is_model(schema: Any) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def _model_check(schema: type[BaseModel], stored: set[str]) -> Callable[[Mapping[str, Any]], None]:
    plain = {name for name, field in schema.model_fields.items() if name in stored and field.validation_alias is None}

    def check(given: Mapping[str, Any]) -> None:
        try:
            schema.model_validate(dict(given))
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_context=False):
                if fault["loc"] and fault["loc"][0] in plain & given.keys():
                    path = ".".join(map(str, fault["loc"]))
                    raise InvalidInput(f"input.{path}: {fault['msg']}; it is {shown(fault['input'])}") from None
        except Exception:  # noqa: BLE001, S110 - a validator of the author's that crashes: the run will say so
            pass

    return check


def _kinds_check(kinds: Mapping[str, Kind]) -> Callable[[Mapping[str, Any]], None]:
    def check(given: Mapping[str, Any]) -> None:
        for key, (fits, accepted) in kinds.items():
            # null is how clients empty a field, whatever its annotation says; the nodes decide what it means.
            if given.get(key) is not None and not fits(given[key]):
                raise InvalidInput(f"input.{key}: must be {accepted}, not {shown(given[key])}")

    return check


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
