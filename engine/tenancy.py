"""Tenants: whose a thread, a run, an assistant or an item is.

In the store and in the engine the default tenant is the empty text: what was made before there were tenants is its, and
a store without any pays nothing for them. People call it ``default``.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from runyard.engine.errors import InvalidInput

DEFAULT = "default"
MAX_LENGTH = 128
#: Besides letters, digits and ``_.-~``. Neither braces, which make hash tags, nor the colon between the parts of a key.
_PLAIN = "@|+=/,!"


def stored(name: str) -> str:
    """A tenant's name as it stands in keys and records; what could not stand there is percent-encoded.

    Raises InvalidInput for an empty name and for one that is longer than ``MAX_LENGTH`` when it is encoded.
    """
    text = quote(name.strip(), safe=_PLAIN)
    if not 0 < len(text) <= MAX_LENGTH:
        raise InvalidInput(f"tenant: must be text of 1 to {MAX_LENGTH} characters, not {name[:60]!r}")
    return "" if text == DEFAULT else text


def shown(tenant: str) -> str:
    """The name again, for people."""
    return unquote(tenant) or DEFAULT
