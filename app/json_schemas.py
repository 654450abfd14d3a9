"""What a graph takes and gives, as JSON Schema."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any

import typing_extensions
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

Json = dict[str, Any]

_REQUIRED = (typing.Required, typing_extensions.Required)
_NOT_REQUIRED = (typing.NotRequired, typing_extensions.NotRequired)


def schemas_of(graph_id: str, graph: Any) -> Json:
    """The schemas of a graph; None where it has none, or where its types cannot be described."""
    builder = getattr(graph, "builder", None)
    if builder is None:  # the functional API describes itself
        told = {"input_schema": graph.get_input_jsonschema, "output_schema": graph.get_output_jsonschema}
        return {"graph_id": graph_id, **_EMPTY, **{name: _tell(describe) for name, describe in told.items()}}
    return {
        "graph_id": graph_id,
        "input_schema": describe(builder.input_schema),
        "output_schema": describe(builder.output_schema),
        "state_schema": describe(builder.state_schema),
        "config_schema": describe(graph.context_schema) or _EMPTY["config_schema"],
        "context_schema": describe(graph.context_schema),
    }


_EMPTY: Json = {
    "state_schema": None,
    "config_schema": {"type": "object", "properties": {}},
    "context_schema": None,
}


def describe(hint: Any) -> Json | None:
    """The JSON Schema of a type, with whatever in it cannot be described left open."""
    if hint is None:
        return None
    return _tell(lambda: TypeAdapter(portable(hint)).json_schema(schema_generator=_Lenient))


class _Lenient(GenerateJsonSchema):
    """Describes what has no JSON form (a callable, an object of the author's) as anything."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:  # noqa: ARG002
        return {}


def _tell(describe: Callable[[], Json]) -> Json | None:
    try:
        return describe()
    except Exception:  # noqa: BLE001 - pydantic refuses some types of the author's; the other schemas can still be told
        return None


def portable(hint: Any) -> Any:
    """``hint`` in a form that pydantic describes: before Python 3.12 it refuses typing's own TypedDict."""
    if typing.is_typeddict(hint):
        return _typed_dict(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (None, typing.Literal) or not arguments:
        return hint
    if origin is typing.Annotated:  # what is annotated are reducers and channels, which say nothing about the type
        return portable(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(portable(argument) for argument in arguments)]  # noqa: UP007 - of a number unknown
    return _rebuilt(hint, origin, arguments)


def _rebuilt(hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    inner = tuple(portable(argument) for argument in arguments)
    try:
        return origin[inner] if inner != arguments else hint
    except TypeError:  # a generic that cannot be subscripted again, such as Callable's argument list
        return hint


@functools.lru_cache(maxsize=512)
def _typed_dict(hint: Any) -> Any:
    hints = typing.get_type_hints(hint, include_extras=True)
    fields = {name: _field(inner, optional=name in hint.__optional_keys__) for name, inner in hints.items()}
    made = typing_extensions.TypedDict(hint.__name__, fields)  # type: ignore[operator]
    made.__doc__ = hint.__doc__
    return made


def _field(hint: Any, *, optional: bool) -> Any:
    """A key of the dict. The annotation itself says best whether it may be missing: as a string the class missed it."""
    origin = typing.get_origin(hint)
    if origin in _REQUIRED or origin in _NOT_REQUIRED:
        return _field(typing.get_args(hint)[0], optional=origin in _NOT_REQUIRED)
    inner = portable(hint)
    return typing_extensions.NotRequired[inner] if optional else inner
