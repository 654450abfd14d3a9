"""Whether an item's value passes a search's filter: LangGraph's InMemoryStore's rules, without its exceptions.

``{"a": 1}`` and ``{"a": {"$eq": 1}}`` ask for equality, nested objects key by key; ``$ne $gt $gte $lt $lte`` compare.
Numbers compare as numbers (also when written as text), other texts as texts; what cannot be compared does not pass.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def matches(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Raises ValueError for an operator that does not exist."""
    return all(_fits(value.get(key), each) for key, each in (wanted or {}).items())


def check(wanted: Any) -> None:
    """Raises ValueError for a filter with an operator that does not exist, also when there is nothing to filter."""
    if not isinstance(wanted, dict):
        return
    operators = any(key.startswith("$") for key in wanted)
    for key, each in wanted.items():
        if operators and key not in ("$eq", "$ne", *COMPARE):
            raise ValueError(f"Unsupported operator: {key}")
        if not operators:
            check(each)


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        if any(key.startswith("$") for key in wanted):
            return all(_compares(value, word, operand) for word, operand in wanted.items())
        return isinstance(value, dict) and all(_fits(value.get(key), each) for key, each in wanted.items())
    if isinstance(wanted, list | tuple):
        same_length = isinstance(value, list) and len(value) == len(wanted)
        return same_length and all(_fits(one, other) for one, other in zip(value, wanted, strict=True))
    return bool(value == wanted)


def _compares(value: Any, word: str, operand: Any) -> bool:
    if word in ("$eq", "$ne"):
        return bool(value == operand) is (word == "$eq")
    if word not in COMPARE:
        raise ValueError(f"Unsupported operator: {word}")
    left, right = _number(value), _number(operand)
    if left is not None and right is not None:
        return COMPARE[word](left, right)
    return isinstance(value, str) and isinstance(operand, str) and COMPARE[word](value, operand)


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
