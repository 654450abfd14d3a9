"""Checking what a caller gave to a graph: the first node says what is wrong, and with which field."""

from __future__ import annotations

from collections.abc import Mapping


class BadInput(ValueError):
    """An input that cannot be worked on. A ValueError, which LangGraph does not retry: it would be as bad again."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


def text(given: Mapping[str, object], field: str, *, limit: int) -> str:
    """A text that must be there, without the space around it."""
    value = given.get(field)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(field, f"must be a text that is not empty, not {value!r}")
    if len(value) > limit:
        raise BadInput(field, f"has {len(value)} characters; at most {limit} are accepted")
    return value.strip()


def line(given: Mapping[str, object], field: str, *, limit: int) -> str:
    """A text of one line: what goes into a header must not bring headers of its own."""
    value = text(given, field, limit=limit)
    if any(character in value for character in "\r\n\0"):
        raise BadInput(field, "must be a single line")
    return value


def number(given: Mapping[str, object], field: str, *, default: int, most: int) -> int:
    """A whole number from 1 to `most`, or the default."""
    value = given.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadInput(field, f"must be a whole number from 1 to {most}, not {value!r}")
    return value
