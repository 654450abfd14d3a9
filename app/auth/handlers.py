"""The handlers of the project's Auth object, asked before a view does what it is for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from flask import g

from runyard.app.auth import identity
from runyard.app.auth.custom import CustomAuth
from runyard.app.auth.filters import Filter, fits
from runyard.app.ids import canonical
from runyard.app.wiring import Wiring, wired
from runyard.engine.errors import AssistantExists, AssistantNotFound
from runyard.engine.store.assistants import Assistant

Json = dict[str, Any]

#: What a field of a request is called among the values that handlers see, where that is another name.
_NAMES = {
    "store.search": {"namespace_prefix": "namespace"},
    "store.list_namespaces": {"prefix": "namespace"},
}
#: Actions whose values always have labels, so that a handler can add its own.
_LABELLED = ("create", "update", "search", "create_run")
_RUN_FIELDS = ("input", "command", "config", "context", "webhook", "interrupt_before", "interrupt_after", "stream_mode")


def authorize(on: str, body: Json, path: Mapping[str, Any]) -> None:
    """Ask the handler of ``resource.action``; what it changes is changed in ``body``.

    From here on the request sees only what fits the filter it answered. Raises Forbidden, HandlerRefused,
    AssistantNotFound, AssistantExists. Without an Auth object nobody is asked.
    """
    wiring = wired()
    custom: CustomAuth | None = wiring.custom_auth
    if custom is None:
        return
    resource, _, action = on.partition(".")
    value = _value(on, action, body, path)
    wanted = custom.authorize(identity.current(), resource, action, value)
    _take_over(on, body, value, path)
    if wanted is None or resource == "store":  # items have no metadata: handlers rewrite their namespaces
        return
    if resource == "assistants":
        _check_assistant(wiring, wanted, action, body, path)
    else:
        identity.narrow(_both(g.get("visible"), wanted))


def authorize_run(wiring: Wiring, body: Json, thread_id: str | None, assistant: Assistant) -> None:
    """The same for the start of a run, also whether the assistant may be seen; one that comes with its graph may be."""
    custom: CustomAuth | None = wiring.custom_auth
    if custom is None:
        return
    who = identity.current()
    check_assistant(wiring, assistant)
    value = _run_value(body, thread_id, assistant)
    wanted = custom.authorize(who, "threads", "create_run", value)
    body["metadata"] = value.get("metadata") or {}
    body.update({name: value["kwargs"][name] for name in _RUN_FIELDS if name in value.get("kwargs", {})})
    if wanted is not None:
        identity.narrow(_both(None, wanted))


def check_assistant(wiring: Wiring, assistant: Assistant) -> None:
    """Raise AssistantNotFound for an assistant that a run, or a cron, must not use because it may not be seen."""
    custom: CustomAuth | None = wiring.custom_auth
    if custom is None or wiring.catalog.known(assistant.assistant_id) is not None:
        return
    value = {"assistant_id": uuid.UUID(assistant.assistant_id), "metadata": {}}
    wanted = custom.authorize(identity.current(), "assistants", "read", value)
    if wanted is not None and not fits(wanted, assistant.metadata):
        raise AssistantNotFound(f"Assistant {assistant.assistant_id} not found.")


def sees(metadata: Json) -> bool:
    """Whether an assistant of a listing may be seen."""
    wanted: Filter | None = g.get("assistant_filter")
    return wanted is None or fits(wanted, metadata)


def _value(on: str, action: str, body: Json, path: Mapping[str, Any]) -> Json:
    names = _NAMES.get(on, {})
    given = {names.get(name, name): each for name, each in body.items()}
    if on.startswith("store."):
        space = given.get("namespace")
        given["namespace"] = tuple(space.split(".")) if isinstance(space, str) else tuple(space or ())
    elif action in _LABELLED:
        given["metadata"] = dict(given.get("metadata") or {})
    known = {**given, **{name: each for name, each in path.items() if each is not None}}
    return {name: _as_uuid(each) if name.endswith("_id") else each for name, each in known.items()}


def _take_over(on: str, body: Json, value: Json, path: Mapping[str, Any]) -> None:
    back = {after: before for before, after in _NAMES.get(on, {}).items()}
    kept = {name: str(each) if isinstance(each, uuid.UUID) else each for name, each in value.items()}
    changed = {back.get(name, name): each for name, each in kept.items() if name not in path}
    if changed.get("metadata") == {} and not body.get("metadata"):
        changed.pop("metadata")  # nobody had anything to say: it stays unsaid
    body.update(changed)


def _run_value(body: Json, thread_id: str | None, assistant: Assistant) -> Json:
    return {
        "assistant_id": uuid.UUID(assistant.assistant_id),
        "thread_id": uuid.UUID(thread_id) if thread_id else None,
        "run_id": None,
        "status": "pending",
        "metadata": dict(body.get("metadata") or {}),
        "prevent_insert_if_inflight": body.get("multitask_strategy") == "reject",
        "multitask_strategy": body.get("multitask_strategy") or "enqueue",
        "if_not_exists": body.get("if_not_exists") or "reject",
        "after_seconds": body.get("after_seconds") or 0,
        "kwargs": {name: body[name] for name in _RUN_FIELDS if name in body},
    }


def _check_assistant(wiring: Wiring, wanted: Filter, action: str, body: Json, path: Mapping[str, Any]) -> None:
    g.assistant_filter = wanted
    named = path.get("assistant_id") or (body.get("assistant_id") if action == "create" else None)
    if named is None:
        return
    found = wiring.catalog.known(str(named)) or wiring.catalog.stored(canonical(named) or "")
    if found is None or fits(wanted, found.metadata):
        return
    raise AssistantExists if action == "create" else AssistantNotFound(f"Assistant {named} not found.")


def _both(before: Any, wanted: Filter) -> Any:
    """Whether a thread fits a filter, and what narrowed the request before."""
    return lambda metadata: (before is None or before(metadata)) and fits(wanted, metadata)


def _as_uuid(value: Any) -> Any:
    return uuid.UUID(value) if isinstance(value, str) and canonical(value) else value
