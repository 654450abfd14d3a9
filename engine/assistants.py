"""Assistants that clients make: a graph with a configuration of its own, every change of which is kept as a version."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from runyard.engine.errors import AssistantNotFound, Conflict
from runyard.engine.store import assistants
from runyard.engine.store.assistants import Assistant
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys

Json = dict[str, Any]

#: A listing looks at no more than this many of the newest, and reads so many at a time.
DEPTH, PAGE = 10_000, 500


def under(assistant: Assistant, config: Json, context: Json | None) -> tuple[Json, Json | None]:
    """A run's config and context with the assistant's under them; the run's are not given both."""
    merged = {**assistant.config, **config}
    if tags := [*(assistant.config.get("tags") or ()), *(config.get("tags") or ())]:
        merged["tags"] = list(dict.fromkeys(tags))
    if labels := {**(assistant.config.get("metadata") or {}), **(config.get("metadata") or {})}:
        merged["metadata"] = labels
    if not assistant.context:
        return merged, context
    return merged, {**assistant.context, **(config.get("configurable") or {}), **(context or {})}


class Assistants:
    """Synchronous and thread-safe. Knows nothing of the assistants that come with the project's graphs."""

    def __init__(self, store: SyncStore, keys: Keys) -> None:
        self._store, self._keys = store, keys

    def create(self, assistant_id: str, facts: dict[str, Any], *, exist_ok: bool = False) -> Assistant:
        """Raises AssistantExists unless ``exist_ok``."""
        return self._store.do(assistants.create(self._keys, assistant_id, facts, exist_ok=exist_ok))

    def find(self, assistant_id: str) -> Assistant | None:
        """At the version that is in force."""
        return self._store.do(assistants.get(self._keys, assistant_id))

    def get(self, assistant_id: str) -> Assistant:
        """As :meth:`find`. Raises AssistantNotFound."""
        found = self.find(assistant_id)
        if found is None:
            raise AssistantNotFound(f"Assistant {assistant_id} not found.")
        return found

    def change(self, assistant_id: str, change: Callable[[Assistant], dict[str, Any]]) -> Assistant:
        """Add the version that ``change`` makes of the one in force, and put it in force.

        ``change`` is called again when somebody else was faster, so no change is lost. Raises AssistantNotFound;
        Conflict after losing twenty races.
        """
        for _ in range(20):
            read = self.get(assistant_id)
            if edited := self._store.do(assistants.edit(self._keys, read, change(read), secrets.token_hex(8))):
                return edited
        raise Conflict(f"Assistant {assistant_id} is being changed by many at once; try again.")

    def use_version(self, assistant_id: str, version: int) -> Assistant:
        """Put a version in force. Raises AssistantNotFound, also when there is no such version."""
        return self._store.do(assistants.use_version(self._keys, assistant_id, version))

    def versions(self, assistant_id: str) -> list[Assistant]:
        """Every version, newest first. Raises AssistantNotFound."""
        found = self._store.do(assistants.versions(self._keys, assistant_id))
        if not found:
            raise AssistantNotFound(f"Assistant {assistant_id} not found.")
        return found

    def delete(self, assistant_id: str) -> None:
        """Forget it; runs that were made with it go on. Raises AssistantNotFound."""
        self.get(assistant_id)
        self._store.do(assistants.delete(self._keys, assistant_id))

    def all(self) -> list[Assistant]:
        """Newest first."""
        ids = self._store.do(assistants.newest_ids(self._keys, limit=DEPTH))
        found: list[Assistant | None] = []
        for start in range(0, len(ids), PAGE):
            found += self._store.do_all([assistants.get(self._keys, each) for each in ids[start : start + PAGE]])
        return [each for each in found if each is not None]
