"""What marshmallow found wrong with a piece of configuration, as a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from marshmallow import ValidationError

_WHOLE = "_schema"
#: What marshmallow puts between the name of a mapping and what is wrong with a value of it.
_INSIDE = ("value", "key")


def faults_of(error: ValidationError) -> str:
    """``field: what is wrong; field.inner: …``; what is wrong with the whole comes without a field."""
    return "; ".join(f"{field}: {said}" if field else said for field, said in _faults("", error.messages))


def _faults(field: str, found: Any) -> Iterator[tuple[str, str]]:
    if isinstance(found, dict):
        for name, inner in found.items():
            own = "" if name == _WHOLE or name in _INSIDE else str(name)
            yield from _faults(".".join(part for part in (field, own) if part), inner)
    else:
        yield field, " ".join(map(str, found))
