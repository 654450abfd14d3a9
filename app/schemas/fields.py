"""Fields that say what they accept, in the answer to a wrong value and in OpenAPI alike.

JSON values are taken as they are: nothing is converted, so what a client sent is what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields

from runyard.app.ids import canonical
from runyard.engine.kinds import shown

Check = Callable[[Any], bool]
Words = dict[str, str | list[Any] | dict[Any, Any]]


class Strict(Schema):
    """A JSON object whose every field is known."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012 - marshmallow declares it so
        "type": "must be a JSON object",
        "unknown": "is not a field of this request",
    }


class Lenient(Strict):
    """A JSON object whose unknown fields are ignored, as LangGraph's server does: its newer clients may send some."""

    class Meta:
        unknown = EXCLUDE


class Value(fields.Raw):
    """A JSON value that passes ``check``; ``accepted`` describes in words what does, ``spec`` in JSON Schema."""

    def __init__(self, accepted: str, check: Check, spec: dict[str, Any], about: str = "", **options: Any) -> None:
        words: Words = {"required": f"is missing; it must be {accepted}", "null": f"must be {accepted}, not null"}
        told = {"description": about} if about else {}
        options.setdefault("allow_none", not options.get("required"))
        super().__init__(metadata={**spec, **told}, error_messages=words, **options)
        self.accepted, self.check = accepted, check

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:  # noqa: ARG002
        if not self.check(value):
            raise ValidationError(f"must be {self.accepted}, not {shown(value)}")
        return value


def text(about: str = "", **options: Any) -> Value:
    return Value("text", lambda v: isinstance(v, str), {"type": "string"}, about, **options)


def boolean(about: str = "", **options: Any) -> Value:
    return Value("true or false", lambda v: isinstance(v, bool), {"type": "boolean"}, about, **options)


def one_of(words: Iterable[str], about: str = "", **options: Any) -> Value:
    known = tuple(words)
    spec = {"type": "string", "enum": [*known, None] if not options.get("required") else list(known)}
    return Value(_listed(known), lambda v: isinstance(v, str) and v in known, spec, about, **options)


def whole(about: str = "", *, least: int = 0, most: int = 2**31 - 1, **options: Any) -> Value:
    accepted = f"a whole number of {least} or more" if most == 2**31 - 1 else f"a whole number from {least} to {most}"
    spec = {"type": "integer", "minimum": least, "maximum": most}
    return Value(accepted, lambda v: is_whole(v) and least <= v <= most, spec, about, **options)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def seconds(about: str, *, most: float, **options: Any) -> Value:
    spec = {"type": "number", "minimum": 0, "maximum": most}
    accepted = f"a number of seconds from 0 to {most:g}"
    return Value(accepted, lambda v: _is_number(v) and 0 <= v <= most, spec, about, **options)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mapping(about: str = "", **options: Any) -> Value:
    spec = {"type": "object", "additionalProperties": True}
    return Value("a JSON object", lambda v: isinstance(v, dict), spec, about, **options)


def anything(about: str = "", **options: Any) -> fields.Field[Any]:
    return fields.Raw(metadata={"description": about} if about else {}, allow_none=True, **options)


def uuid(about: str = "", **options: Any) -> Uuid:
    return Uuid("a UUID", lambda v: canonical(v) is not None, {"type": "string", "format": "uuid"}, about, **options)


def uuids(about: str = "", **options: Any) -> Value:
    spec = {"type": "array", "items": {"type": "string", "format": "uuid"}}
    return Value("a list of UUIDs", _are_uuids, spec, about, **options)


def _are_uuids(value: Any) -> bool:
    return isinstance(value, list) and all(canonical(item) is not None for item in value)


class Uuid(Value):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        return canonical(super()._deserialize(value, attr, data, **options))


def texts(about: str = "", *, among: Iterable[str] | None = None, **options: Any) -> Value:
    """A list of texts, perhaps from a fixed set."""
    known = frozenset(among or ())
    accepted = f"a list of {_listed(sorted(known))}" if known else "a list of texts"
    items: dict[str, Any] = {"type": "string", "enum": sorted(known)} if known else {"type": "string"}
    spec = {"type": "array", "items": items}
    return Value(accepted, lambda v: is_texts(v) and (not known or known.issuperset(v)), spec, about, **options)


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class Flag(fields.Boolean):
    """A query parameter that is on or off: 1, 0, true, false."""

    def __init__(self, about: str = "") -> None:
        words: Words = {"invalid": "must be 0, 1, true or false"}
        super().__init__(load_default=False, error_messages=words, metadata={"description": about})


class Number(fields.Integer):
    """A query parameter that is a whole number."""

    def __init__(self, default: int, *, least: int, most: int, about: str = "") -> None:
        words: Words = {"invalid": f"must be a whole number from {least} to {most}"}
        self.least, self.most = least, most
        told = {"minimum": least, "maximum": most, "description": about}
        super().__init__(load_default=default, error_messages=words, metadata=told)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        number = super()._deserialize(value, attr, data, **options)
        if not self.least <= number <= self.most:
            raise self.make_error("invalid")
        return number


class Word(fields.String):
    """A query parameter out of a fixed set."""

    def __init__(self, words: Iterable[str], *, default: str | None = None, about: str = "") -> None:
        self.words = tuple(words)
        super().__init__(load_default=default, metadata={"enum": list(self.words), "description": about})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        word = super()._deserialize(value, attr, data, **options)
        if word not in self.words:
            raise ValidationError(f"must be {_listed(self.words)}, not {shown(word)}")
        return word


def _listed(words: Iterable[str]) -> str:
    *most, last = [f'"{word}"' for word in words]
    return f"{', '.join(most)} or {last}" if most else last
