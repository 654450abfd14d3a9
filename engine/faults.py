"""What marshmallow found wrong with a piece of configuration, as a sentence."""

from __future__ import annotations

from marshmallow import ValidationError

_WHOLE = "_schema"


def faults_of(error: ValidationError) -> str:
    """``field: what is wrong; field: …``; what is wrong with the whole comes without a field."""
    found = dict(error.messages_dict) if isinstance(error.messages, dict) else {_WHOLE: error.messages}
    return "; ".join(
        f"{'' if field == _WHOLE else f'{field}: '}{' '.join(map(str, texts))}" for field, texts in found.items()
    )
