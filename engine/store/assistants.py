"""Assistants that clients made: their record, its versions, and the typed functions for its scripts.

All of them share one hash tag: they are few, and read by id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runyard.engine import wire
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.replies import as_hash
from runyard.engine.store.scripts import script

#: What a version is made of; the rest of an assistant is not versioned.
FACTS = ("graph_id", "name", "description", "config", "context", "metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """A configured graph at one of its versions. Instants are ms since the epoch."""

    assistant_id: str
    graph_id: str
    name: str
    created_at: int
    updated_at: int
    description: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    #: The highest version there is, and the JSON of this one as stored: the condition of an edit.
    newest: int = 1
    raw: bytes = b""

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FACTS}


def create(keys: Keys, assistant_id: str, facts: dict[str, Any], *, exist_ok: bool) -> Call[Assistant]:
    """Make an assistant. Raises AssistantExists unless ``exist_ok``, which answers the one there is."""
    mode = "do_nothing" if exist_ok else "raise"
    places = (keys.assistant(assistant_id), keys.assistant_versions(assistant_id), keys.assistants)
    return Call(script("create_assistant"), places, (assistant_id, wire.encode(facts), mode), _decode)


def get(keys: Keys, assistant_id: str) -> Call[Assistant | None]:
    fields = ("assistant_id", "version", "newest", "created_at", "updated_at", "facts")
    parse = lambda reply: _decode(reply) if reply[0] is not None else None  # noqa: E731 - one line says it
    return Call.command("HMGET", keys.assistant(assistant_id), *fields, parse=parse)


def edit(keys: Keys, read: Assistant, facts: dict[str, Any], nonce: str) -> Call[Assistant | None]:
    """Add a version and put it in force, or None when the assistant has changed since it was ``read``: try again.

    Raises AssistantNotFound.
    """
    places = (keys.assistant(read.assistant_id), keys.assistant_versions(read.assistant_id))
    arguments = (read.newest, read.raw, wire.encode(facts), nonce)
    return Call(script("edit_assistant"), places, arguments, lambda reply: _decode(reply) if reply else None)


def use_version(keys: Keys, assistant_id: str, version: int) -> Call[Assistant]:
    """Put a version in force. Raises AssistantNotFound, also when there is no such version."""
    places = (keys.assistant(assistant_id), keys.assistant_versions(assistant_id))
    return Call(script("use_version"), places, (version,), _decode)


def delete(keys: Keys, assistant_id: str) -> Call[int]:
    places = (keys.assistant(assistant_id), keys.assistant_versions(assistant_id), keys.assistants)
    return Call(script("delete_assistant"), places, (assistant_id,), int)


def newest_ids(keys: Keys, *, limit: int) -> Call[list[str]]:
    return Call.command("ZREVRANGE", keys.assistants, 0, limit - 1, parse=lambda ids: [i.decode() for i in ids])


def versions(keys: Keys, assistant_id: str) -> Call[list[Assistant]]:
    """Every version, newest first, each made when it was made."""

    def parse(reply: Any) -> list[Assistant]:
        found = [_version(assistant_id, int(number), text) for number, text in as_hash(reply).items()]
        return sorted(found, key=lambda each: each.version, reverse=True)

    return Call.command("HGETALL", keys.assistant_versions(assistant_id), parse=parse)


def _version(assistant_id: str, version: int, text: bytes) -> Assistant:
    at, _, raw = text.partition(b" ")
    return _of(assistant_id, version, version, int(at), int(at), raw)


def _decode(reply: Any) -> Assistant:
    assistant_id, version, newest, created_at, updated_at, raw = reply
    return _of(assistant_id.decode(), int(version), int(newest), int(created_at), int(updated_at), raw)


def _of(assistant_id: str, version: int, newest: int, created_at: int, updated_at: int, raw: bytes) -> Assistant:
    facts: Mapping[str, Any] = wire.decode(raw)
    return Assistant(
        assistant_id=assistant_id, version=version, newest=newest, created_at=created_at, updated_at=updated_at,
        raw=raw, **facts,
    )  # fmt: skip
