"""Assistants of both kinds: those that come with the project's graphs, and those that clients made."""

from __future__ import annotations

import uuid
from typing import Any

from runyard.app.auth.handlers import sees
from runyard.app.errors import BadRequest
from runyard.app.wiring import Wiring
from runyard.engine.errors import AssistantExists, AssistantNotFound, Conflict
from runyard.engine.service import Service
from runyard.engine.store.assistants import FACTS, Assistant
from runyard.engine.thread_search import SEARCH_DEPTH, contains

Json = dict[str, Any]

#: The name of an assistant that nobody named.
NAMELESS = "Untitled"


def create(wiring: Wiring, body: Json) -> Assistant:
    """Make an assistant of a graph of the project. Raises UnknownGraph, AssistantExists, BadRequest."""
    wiring.catalog.registry.spec(body["graph_id"])
    assistant_id = body.get("assistant_id") or str(uuid.uuid4())
    exist_ok = body.get("if_exists") == "do_nothing"
    if own := wiring.catalog.known(assistant_id):
        if exist_ok:
            return own
        raise AssistantExists
    given = {name: body.get(name) for name in FACTS}
    config, context = mirrored(body.get("config"), body.get("context"))
    facts = {**given, "name": body.get("name") or NAMELESS, "config": config, "context": context}
    return wiring.assistants.create(assistant_id, {**facts, "metadata": body.get("metadata") or {}}, exist_ok=exist_ok)


def change(wiring: Wiring, assistant_id: str, body: Json) -> Assistant:
    """Add a version: what is given takes the place of what there was, metadata key by key.

    Raises AssistantNotFound, UnknownGraph, BadRequest; Conflict for an assistant that comes with its graph.
    """
    _refuse_own(wiring, assistant_id, "changed")
    if body.get("graph_id"):
        wiring.catalog.registry.spec(body["graph_id"])
    mirrored(body.get("config"), body.get("context"))  # what contradicts itself is refused before anything is read
    return wiring.assistants.change(assistant_id, lambda read: _changed(read, body))


def _changed(read: Assistant, body: Json) -> Json:
    facts = read.facts()
    facts |= {name: body[name] for name in ("graph_id", "name", "description") if body.get(name) is not None}
    if body.get("config") is not None or body.get("context") is not None:
        config = read.config if body.get("config") is None else body["config"]
        if body.get("config") is None:  # its configurable is the mirror of the context that goes
            config = {key: value for key, value in config.items() if key != "configurable"}
        facts["config"], facts["context"] = mirrored(config, body.get("context"))
    return {**facts, "metadata": {**read.metadata, **(body.get("metadata") or {})}}


def use_version(wiring: Wiring, assistant_id: str, version: int) -> Assistant:
    """Put a version in force. Raises AssistantNotFound, also when there is no such version."""
    own = wiring.catalog.known(assistant_id)
    if own is None:
        return wiring.assistants.use_version(assistant_id, version)
    if version != own.version:
        raise AssistantNotFound(f"Assistant {assistant_id} comes with its graph and has version 1 only.")
    return own


def versions(wiring: Wiring, assistant_id: str, metadata: Json | None) -> list[Assistant]:
    """Versions whose metadata holds all of ``metadata``, newest first. Raises AssistantNotFound."""
    own = wiring.catalog.known(assistant_id)
    found = [own] if own else wiring.assistants.versions(assistant_id)
    return [each for each in found if contains(each.metadata, metadata or {})]


def delete(wiring: Wiring, assistant_id: str, *, threads: bool) -> None:
    """Forget an assistant, and with ``threads`` those whose last run was its. Raises AssistantNotFound, Conflict."""
    _refuse_own(wiring, assistant_id, "deleted")
    wiring.assistants.get(assistant_id)
    service = wiring.service
    while threads:
        found, _ = service.search_threads(metadata={"assistant_id": assistant_id}, limit=500)
        for thread in found:
            service.delete_thread(thread.thread_id)
        threads = bool(found)
        for thread_id in _busy_with(service, assistant_id):
            service.delete_thread(thread_id)
    wiring.assistants.delete(assistant_id)


def _busy_with(service: Service, assistant_id: str) -> list[str]:
    """Threads whose newest run is an assistant's and has not ended: their record may not name it yet."""
    busy, _ = service.search_threads(status="busy", limit=SEARCH_DEPTH)
    newest = [(thread.thread_id, service.list_runs(thread.thread_id, limit=1)) for thread in busy]
    return [thread_id for thread_id, runs in newest if runs and runs[0].assistant_id == assistant_id]


def search(wiring: Wiring, wanted: Json) -> list[Assistant]:
    """Assistants of both kinds that match all that is given."""
    name = (wanted.get("name") or "").lower()
    return [
        each
        for each in (*wiring.assistants.all(), *wiring.catalog.all())
        if wanted.get("graph_id") in (None, each.graph_id)
        and name in each.name.lower()
        and contains(each.metadata, wanted.get("metadata") or {})
        and sees(each.metadata)
    ]


def mirrored(config: Json | None, context: Json | None) -> tuple[Json, Json]:
    """Config and context with the same values in ``config.configurable`` and ``context``. Raises BadRequest."""
    config = {key: value for key, value in (config or {}).items() if value is not None}
    configurable = config.get("configurable")
    if configurable and context and configurable != context:
        raise BadRequest("context: give either context or config.configurable, or the same values in both.")
    values = context or configurable or {}
    return ({**config, "configurable": values} if values else config), dict(values)


def labels(wiring: Wiring, assistant: Assistant) -> Json:
    """What an assistant adds to the metadata of its runs; one that comes with its graph adds nothing."""
    return {} if wiring.catalog.known(assistant.assistant_id) else assistant.metadata


def _refuse_own(wiring: Wiring, assistant_id: str, what: str) -> None:
    own = wiring.catalog.known(assistant_id)
    if own is not None:
        raise Conflict(
            f"The assistant of the graph {own.graph_id!r} comes with it and cannot be {what}; make one of your own."
        )


def order(assistant: Assistant, field: str) -> tuple[Any, str]:
    """What a listing sorts by: the field, and among equals the id, so that pages never overlap."""
    return getattr(assistant, field), assistant.assistant_id
