"""Whether a graph could take an input at all, asked before a run is recorded; and what of its config is context to it.

Only what the graph would certainly refuse is refused: a value that is no object where the state has named keys, and a
value of the wrong plain kind under a key that is stored as it is given. What passes through a reducer, a validator of
the author's own or a type we do not know is the graph's to judge. A key may be missing: the thread may have it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from langgraph.channels import LastValue
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, ValidationError

from runyard.engine.errors import InvalidInput
from runyard.engine.kinds import Kind, is_model, kinds_of, shown
from runyard.engine.worker import Graph

CheckInput = Callable[[Any], None]
_ROOT = "__root__"


def context_keys(graph: Graph) -> Collection[str] | None:
    """The names that a graph's context takes, where it is made of a class that refuses others; None: any."""
    schema = getattr(graph, "context_schema", None)
    if is_model(schema):
        return schema.model_fields.keys()
    return {field.name for field in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else None


def checker(graph: Graph) -> CheckInput:
    """A function that raises InvalidInput for an input that ``graph`` would certainly refuse. Made once per graph."""
    if not isinstance(graph, CompiledStateGraph):
        return lambda _: None  # the functional API: its input is any argument
    schema = graph.builder.input_schema
    channels = graph.builder.schemas.get(schema, {})
    if not channels or _ROOT in channels:
        return lambda _: None
    stored = {name for name, channel in channels.items() if type(channel) is LastValue}
    check = _model_check(schema, stored) if is_model(schema) else _kinds_check(kinds_of(schema, stored))
    return lambda given: _check(given, sorted(channels), check)


def _check(given: Any, keys: list[str], check: Callable[[Mapping[str, Any]], None]) -> None:
    if given is None:
        return
    if not isinstance(given, dict):
        known = ", ".join(keys)
        raise InvalidInput(f"input: must be a JSON object with keys of the graph's state ({known}), not {shown(given)}")
    check(given)


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
