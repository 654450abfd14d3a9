"""What a model call comes to at most, as far as its request says: so that calls side by side share what is left.

A token is at least one byte of what was sent, and an answer has no more tokens than was asked for. Where a request
names no most, a number stands in for it (``runyard.budgets.answer_tokens``) that no known model goes beyond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: What one message has around its text, and what a part of it that is no text may have: an image, a file.
_AROUND, _NO_TEXT = 32, 32_768
#: Names that providers have for the most tokens of an answer.
_MOST = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")


@dataclass(frozen=True, slots=True)
class Bound:
    """Tokens in and out."""

    into: int
    out: int

    @property
    def tokens(self) -> int:
        return self.into + self.out


def bound_of(asked: Iterable[Any], params: Mapping[str, Any] | None, answer_tokens: int) -> Bound:
    """``asked``: prompts as text, or lists of messages; ``params``: what the model is called with."""
    params = params or {}
    into = sum(_size(one) for one in asked) + len(str(params.get("tools") or "").encode())
    most = next((params[name] for name in _MOST if _is_count(params.get(name))), answer_tokens)
    answers = params["n"] if _is_count(params.get("n")) else 1
    return Bound(into, most * answers)


def _size(one: Any) -> int:
    if isinstance(one, str):
        return len(one.encode()) + _AROUND
    return sum(_of_message(message) for message in one)


def _of_message(message: Any) -> int:
    content = getattr(message, "content", "")
    parts = content if isinstance(content, list) else [content]
    calls = getattr(message, "tool_calls", None)
    return _AROUND + sum(map(_of_part, parts)) + (len(str(calls).encode()) if calls else 0)


def _of_part(part: Any) -> int:
    text = part.get("text") if isinstance(part, Mapping) else part
    return len(text.encode()) + _AROUND if isinstance(text, str) else _NO_TEXT


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
