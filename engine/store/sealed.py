"""The store as it is, value by value, and putting a value in the place of the one that it was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from runyard.engine.store.client import Arg, Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

#: Where a value stands, what is there, and what is to be there.
Change = tuple[bytes | int, bytes, bytes]
#: An entry of a stream: its id, and names and values in turn.
Entry = tuple[bytes, list[bytes]]


def scan(keys: Keys, cursor: int, count: int) -> Call[tuple[int, list[str]]]:
    """The next cursor, and some keys of the store."""

    def parse(reply: Any) -> tuple[int, list[str]]:
        return int(reply[0]), [name.decode() for name in reply[1]]

    return Call.command("SCAN", cursor, "MATCH", f"{keys.prefix}:*", "COUNT", count, parse=parse)


def kind_of(name: str) -> Call[str]:
    return Call.command("TYPE", name, parse=bytes.decode)


def text(name: str) -> Call[bytes]:
    return Call.command("GET", name, parse=lambda reply: reply or b"")


def elements(name: str) -> Call[list[bytes]]:
    return Call.command("LRANGE", name, 0, -1)


def fields(name: str, cursor: int, count: int) -> Call[tuple[int, dict[bytes, bytes]]]:
    """The next cursor, and some fields of a hash with their values."""

    def parse(reply: Any) -> tuple[int, dict[bytes, bytes]]:
        held = reply[1]
        return int(reply[0]), held if isinstance(held, dict) else dict(zip(held[::2], held[1::2], strict=True))

    return Call.command("HSCAN", name, cursor, "COUNT", count, parse=parse)


def entries(name: str) -> Call[list[Entry]]:
    def parse(reply: Any) -> list[Entry]:
        return [(entry_id, _flat(words)) for entry_id, words in reply]

    return Call.command("XRANGE", name, "-", "+", parse=parse)


def reseal(name: str, kind: str, changes: Sequence[Change]) -> Call[int]:
    """Put values of a hash, a list or a string in the places of those they were made from; answers how many were."""
    words: list[Arg] = [kind]
    for at, was, value in changes:
        words += [at, hashlib.sha1(was, usedforsecurity=False).hexdigest(), value]
    return Call(script("reseal"), (name,), tuple(words), int)


def reseal_stream(name: str, made: Sequence[Entry]) -> Call[bool]:
    """Write a stream anew with these entries, which have the ids of its own, if it is still the one that was read."""
    words: list[Arg] = [made[-1][0], len(made)]
    for entry_id, flat in made:
        words += [entry_id, len(flat), *flat]
    return Call(script("reseal_stream"), (name,), tuple(words), bool)


def _flat(words: Any) -> list[bytes]:
    return [word for pair in words.items() for word in pair] if isinstance(words, dict) else list(words)
