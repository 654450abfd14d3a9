"""Limits that the whole fleet shares, as a project's configuration defines them: ``runyard.limits`` by name.

``{"openai": {"rate": "600/minute", "burst": 20, "concurrency": 8}}``: a node whose policy says ``"limit": "openai"`` is
executed only while it holds a share. What is left of a limit is in the store (:mod:`runyard.engine.store.limits`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from runyard.engine.errors import ConfigError
from runyard.engine.faults import faults_of

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"(\d+)/(second|minute|hour|day)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: Nobody means more, and a share for each must fit into the store.
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Limit:
    """``interval_ms`` between two beginnings on average (0: no rate), of which ``burst`` may come at once;
    ``concurrency`` at the same time (0: any number)."""

    name: str
    interval_ms: float = 0.0
    burst: int = 1
    concurrency: int = 0


def limits_of(configured: object) -> dict[str, Limit]:
    """The limits of a project. Raises ConfigError that names limit and field."""
    if not isinstance(configured, Mapping):
        raise ConfigError(f"runyard.limits must map names to limits, not {configured!r}.")
    return {str(name): _limit(str(name), given) for name, given in configured.items()}


def _limit(name: str, given: object) -> Limit:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"Limit {name!r} is not valid: a name has 1 to 64 letters, digits, '_', '.' or '-'.")
    try:
        said: dict[str, Any] = _LimitSchema().load(given)  # type: ignore[arg-type]  # what is no mapping is refused
    except ValidationError as error:
        raise ConfigError(f"Limit {name!r} is not valid: {faults_of(error)}.") from error
    count, unit = said.get("rate", (0, ""))
    interval_ms = _UNITS_S[unit] * 1000 / count if count else 0.0
    # What was saved up comes on top of the rate: a tenth of it keeps any window near the figure that was asked for.
    return Limit(name, interval_ms, said.get("burst", max(1, count // 10)), said.get("concurrency", 0))


class _Rate(fields.String):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:  # noqa: ARG002
        matched = _RATE.fullmatch(value) if isinstance(value, str) else None
        if matched is None or int(matched[1]) == 0:
            raise ValidationError(f'must be like "60/minute" (second, minute, hour, day), not {value!r}')
        return int(matched[1]), matched[2]


def _count() -> fields.Integer:
    said = f"must be a whole number from 1 to {_MOST}"
    return fields.Integer(strict=True, validate=validate.Range(1, _MOST, error=said), error_messages={"invalid": said})


class _LimitSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"type": "must be an object", "unknown": "is not a field of a limit"}  # noqa: RUF012

    rate = _Rate()
    burst = _count()
    concurrency = _count()

    @validates_schema
    def _means_something(self, data: dict[str, Any], **_: Any) -> None:
        if not data.keys() & {"rate", "concurrency"}:
            raise ValidationError('give "rate", "concurrency" or both')
        if "burst" in data and "rate" not in data:
            raise ValidationError("means nothing without a rate", "burst")
