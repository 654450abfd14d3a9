"""Filters of authorization handlers: whether a thing's metadata fits one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Filter = Mapping[str, Any]


class WrongFilter(ValueError):
    """A handler returned a filter that means nothing."""


def fits(wanted: Filter, metadata: Mapping[str, Any]) -> bool:
    """Whether all of a filter holds. Raises WrongFilter, so that a mistake in it shows nothing to anybody."""
    return all(name in metadata and _fits(condition, metadata[name]) for name, condition in wanted.items())


def _fits(condition: Any, value: Any) -> bool:
    if not isinstance(condition, Mapping):
        return bool(value == condition)
    if not any(str(word).startswith("$") for word in condition):
        return bool(value == condition)
    return all(_holds(str(word), operand, value) for word, operand in condition.items())


def _holds(word: str, operand: Any, value: Any) -> bool:
    if word == "$eq":
        return bool(value == operand)
    if word == "$contains":
        wanted = operand if isinstance(operand, list | tuple) else [operand]
        return isinstance(value, list) and all(each in value for each in wanted)
    raise WrongFilter(f"A filter may say $eq and $contains, not {word!r}.")
