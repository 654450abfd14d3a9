"""What must not be kept or shown: secrets, by the name they go under and by what they look like; and too much of it.

A net, not a wall: a secret that neither its name nor its form gives away passes. A process that was told of them
(:func:`learn`) also knows the secrets of its own environment, and the names that its operator adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set as AbstractSet
from functools import lru_cache
from typing import Any

HIDDEN = "[redacted]"
#: Longer text is cut, longer lists and deeper nesting are left out.
MOST_TEXT, MOST_ITEMS, DEEPEST = 500, 20, 5

_NAMES = re.compile(
    r"pass(?:word|wd|phrase)|secret|credential|authorization|cookie|signature|session_?id|private_?key"
    r"|(?:api|access|auth|client|encryption|signing)_?-?key|^key$|(?:^|[_-])(?:token|pwd|dsn|otp|pin|jwt)$"
    r"|(?:access|auth|refresh|id|bearer|api|csrf|session)_?-?token",
    re.IGNORECASE,
)
_FORMS = re.compile(
    r"\bsk-[\w-]{12,}|\bsk_(?:live|test)_\w{10,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bxox[abprs]-[\w-]{10,}|\blsv2_\w{10,}|\bhf_\w{20,}"
    r"|\bry_[0-9a-f]{16}_[\w-]{20,}|\bwhsec_[\w+/=-]{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
    r"|(?i:(?<=bearer )|(?<=basic ))[\w.~+/=-]{8,}",
    re.DOTALL,
)
#: What its name gives away inside text: ``password=…``, ``api_key='…'``, and ``"token": "…"`` of JSON or a dict.
_NAMED = re.compile(
    r"((?:passw(?:or)?d|passphrase|secret|token|api_?key|signature)(?:=[\"'{(]*|[\"']\s*:\s*[\"']))"
    r"[^\s&\"',;)}\]\[]+",
    re.IGNORECASE,
)
#: One of these is in every text that a form of above matches: most text holds none, and is not searched further. Each
#: begins with one character, so that the engine need only stop where one of these stands (a fifth of the time).
_HINT = re.compile(
    r"sk[-_]|ry_|whsec_|gh[pousr]_|github_pat_|glpat-|AKIA|AIza|xox|lsv2_|hf_|eyJ|PRIVATE KEY|@"
    r"|b(?i:earer )|B(?i:earer )|b(?i:asic )|B(?i:asic )|=|\"\s*:|'\s*:"
)

#: A shorter value of a variable is a switch or a number rather than a secret.
_LEAST_SECRET = 8
_NOTHING = re.compile(r"(?!)")
#: What this process was told to hide besides: names, the same in front of a value, and values as they stand.
_more_names, _more_named, _values = _NOTHING, _NOTHING, _NOTHING


def learn(environment: Mapping[str, str], names: Iterable[str] = ()) -> None:
    """From now on this process also hides what goes under ``names``, and the values of the variables of its
    ``environment`` that their names give away, wherever these come up in text. Called once, when it is wired."""
    global _more_names, _more_named, _values  # noqa: PLW0603 - whoever shows something, anywhere, must not show these
    if words := "|".join(re.escape(name) for name in sorted(set(names), key=len, reverse=True)):
        _more_names = re.compile(rf"(?:^|[_\W])(?:{words})(?:$|[_\W])", re.IGNORECASE)
        _more_named = re.compile(
            rf"((?:^|[_\W])(?:{words})(?:=[\"'{{(]*|[\"']\s*:\s*[\"']?))[^\s&\"',;)}}\]\[]+", re.IGNORECASE
        )
    else:
        _more_names = _more_named = _NOTHING
    hides.cache_clear()
    secret = {value for name, value in environment.items() if hides(name) and len(value) >= _LEAST_SECRET}
    secret |= {part for value in secret for part in value.split() if len(part) >= _LEAST_SECRET}
    found = "|".join(re.escape(value) for value in sorted(secret, key=len, reverse=True))
    _values = re.compile(found) if found else _NOTHING


@lru_cache(maxsize=4096)
def hides(name: str) -> bool:
    """Whether what goes under this name is a secret."""
    return _NAMES.search(name) is not None or _more_names.search(name) is not None


def text(given: str, most: int = MOST_TEXT) -> str:
    """``given`` without what looks like a secret, cut to about ``most`` characters."""
    # Cut before the search, which would take its time over a megabyte, and a little later than asked for, so that a
    # secret at the edge is seen whole.
    kept = given if len(given) <= most else given[: most + 100]
    if _HINT.search(kept):
        kept = _NAMED.sub(rf"\1{HIDDEN}", _FORMS.sub(HIDDEN, kept))
        if _more_named is not _NOTHING:
            kept = _more_named.sub(rf"\1{HIDDEN}", kept)
    if _values is not _NOTHING:
        kept = _values.sub(HIDDEN, kept)
    return kept if len(kept) <= most else f"{kept[:most]}…"


def plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON's kinds, redacted and bounded. Never raises."""
    if value is None or isinstance(value, (bool, int, float)):
        return value if not isinstance(value, int) or -(2**63) <= value < 2**63 else text(str(value))
    if isinstance(value, str):
        return text(value)
    if depth < DEEPEST and isinstance(value, Mapping):
        return _mapping(value, depth)
    if depth < DEEPEST and isinstance(value, (list, tuple, AbstractSet)):
        items = [plain(item, depth + 1) for _, item in zip(range(MOST_ITEMS), value, strict=False)]
        return [*items, f"… {len(value) - MOST_ITEMS} more"] if len(value) > MOST_ITEMS else items
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    return _other(value, depth)


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    shown = {}
    for _, (key, item) in zip(range(MOST_ITEMS), value.items(), strict=False):
        name = text(str(key), 100)
        shown[name] = HIDDEN if item not in (None, "") and hides(name) else plain(item, depth + 1)
    if len(value) > MOST_ITEMS:
        shown["…"] = f"{len(value) - MOST_ITEMS} more"
    return shown


def _other(value: Any, depth: int) -> Any:
    try:
        if depth < DEEPEST and hasattr(value, "model_dump") and not isinstance(value, type):
            return plain(value.model_dump(), depth + 1)
        if depth < DEEPEST and hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
            return plain({name: getattr(value, name) for name in value.__dataclass_fields__}, depth + 1)
        return text(repr(value), 200)
    except Exception:  # noqa: BLE001 - a user's own object may raise anything while it is shown
        return f"<{type(value).__name__}>"
