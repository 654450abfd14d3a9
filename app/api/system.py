"""What the server is and how it does. Never behind authentication."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers, health
from runyard.app.auth.scopes import OPEN, needs
from runyard.app.errors import NotReady
from runyard.app.resources import Resource
from runyard.app.schemas.fields import Flag, Strict
from runyard.app.version import LANGGRAPH_VERSION, VERSION
from runyard.app.wiring import service, wired

blueprint = Resource("system", __name__, description="What the server is, and how it does.")


class OkQuery(Strict):
    class Meta:
        unknown = "exclude"

    check_db = Flag("Also ask the store.")


@blueprint.route("/")
@blueprint.route("/ok")
@blueprint.query(OkQuery)
@blueprint.response(200, {"type": "object"})
@needs(OPEN)
def ok(query: dict[str, Any]) -> Response:
    """Whether the server answers."""
    if query["check_db"] and not wired().options.hides_meta:
        service().waits_ms()
    return answers.json({"ok": True})


@blueprint.route("/info")
@blueprint.response(200, {"type": "object"})
@needs(OPEN)
def info() -> Response:
    """Versions, and what this server can do."""
    flags = {"assistants": True, "crons": True, "langsmith": False, "langsmith_tracing_replicas": False}
    host = {"kind": "self-hosted", "project_id": None, "revision_id": None}
    versions = {"version": VERSION, "langgraph_py_version": LANGGRAPH_VERSION}
    return answers.json({**versions, "flags": flags, "host": host})


@blueprint.route("/version")
@blueprint.response(200, {"type": "object"})
@needs(OPEN)
def version() -> Response:
    """The version of Runyard and of LangGraph."""
    return answers.json({"version": VERSION, "langgraph": LANGGRAPH_VERSION})


@blueprint.route("/healthz")
@blueprint.response(200, {"type": "object"})
@needs(OPEN)
def healthz() -> Response:
    """Whether this process lives; it may wait for a store."""
    return answers.json({"ok": True})


@blueprint.route("/readyz")
@blueprint.response(200, {"type": "object"})
@needs(OPEN)
def readyz() -> Response:
    """Whether runs would be carried out: store, broker, and workers that take work."""
    if found := health.problems(wired()):
        raise NotReady(" ".join(found))
    vault = wired().shared_service.keys.vault
    return answers.json({"ready": True, **({"encryption": vault.key_id} if vault else {})})
