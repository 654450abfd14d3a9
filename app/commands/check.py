"""What a check of ``runyard doctor`` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``todo`` says what to do about it; it is empty when nothing is to be done."""

    check: str
    state: State
    said: str
    todo: str = ""


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def warn(check: str, said: str, todo: str) -> Finding:
    return Finding(check, "warn", said, todo)


def fail(check: str, said: str, todo: str) -> Finding:
    return Finding(check, "fail", said, todo)


def skip(check: str, said: str) -> Finding:
    return Finding(check, "skip", said)
