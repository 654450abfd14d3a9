"""Assistants: one comes with each graph of the project, others are made by clients."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers, assistants
from runyard.app.auth import identity
from runyard.app.auth.scopes import needs
from runyard.app.catalog import drawing_of
from runyard.app.json_schemas import schemas_of
from runyard.app.resources import Resource
from runyard.app.schemas.assistants import (
    Assistant,
    AssistantCreate,
    AssistantFilter,
    AssistantPatch,
    AssistantSearch,
    AssistantVersion,
    DeleteQuery,
    Drawing,
    GraphQuery,
    GraphSchemas,
    SubgraphsQuery,
    VersionChoice,
    VersionSearch,
)
from runyard.app.shapes import of_assistant, only
from runyard.app.wiring import wired
from runyard.engine.errors import InvalidInput

blueprint = Resource("assistants", __name__, url_prefix="/assistants", description="Graphs that can be run.")

Json = dict[str, Any]


@blueprint.route("", methods=["POST"])
@blueprint.body(AssistantCreate)
@blueprint.response(200, Assistant)
@needs("assistants:write", "assistants.create")
def create(body: Json) -> Response:
    """Make an assistant: a graph with a configuration of its own."""
    return answers.json(of_assistant(assistants.create(wired(), body)))


@blueprint.route("/search", methods=["POST"])
@blueprint.body(AssistantSearch, required=False)
@blueprint.response(200, Assistant(many=True))
@needs("assistants:read", "assistants.search")
def search(body: Json) -> Response:
    """Assistants that match all that is given."""
    sort_by = body.get("sort_by") or "created_at"
    descending = body.get("sort_order") != "asc"
    found = sorted(
        assistants.search(wired(), body), key=lambda each: assistants.order(each, sort_by), reverse=descending
    )
    limit, offset = body.get("limit") or 10, body.get("offset") or 0
    shown = [only(body.get("select"), of_assistant(each)) for each in found[offset : offset + limit]]
    return answers.page(shown, total=len(found), limit=limit, offset=offset)


@blueprint.route("/count", methods=["POST"])
@blueprint.body(AssistantFilter, required=False)
@blueprint.response(200, {"type": "integer"})
@needs("assistants:read", "assistants.search")
def count(body: Json) -> Response:
    """How many assistants match."""
    return answers.json(len(assistants.search(wired(), body)))


@blueprint.route("/<assistant:assistant_id>")
@blueprint.response(200, Assistant)
@needs("assistants:read", "assistants.read")
def get(assistant_id: str) -> Response:
    """An assistant by its id."""
    return answers.json(of_assistant(wired().catalog.find(assistant_id)))


@blueprint.route("/<assistant:assistant_id>", methods=["PATCH"])
@blueprint.body(AssistantPatch)
@blueprint.response(200, Assistant)
@needs("assistants:write", "assistants.update")
def patch(body: Json, assistant_id: str) -> Response:
    """Give an assistant a new version, which is in force at once."""
    return answers.json(of_assistant(assistants.change(wired(), assistant_id, body)))


@blueprint.route("/<assistant:assistant_id>", methods=["DELETE"])
@blueprint.query(DeleteQuery)
@blueprint.response(204)
@needs("assistants:write", "assistants.delete")
def delete(query: Json, assistant_id: str) -> Response:
    """Delete an assistant and its versions; its runs and, unless asked otherwise, its threads stay."""
    if query["delete_threads"]:
        identity.ask("threads.delete")
    assistants.delete(wired(), assistant_id, threads=query["delete_threads"])
    return answers.nothing(204)


@blueprint.route("/<assistant:assistant_id>/versions", methods=["POST"])
@blueprint.body(VersionSearch, required=False)
@blueprint.response(200, AssistantVersion(many=True))
@needs("assistants:read", "assistants.read")
def versions(body: Json, assistant_id: str) -> Response:
    """An assistant's versions, newest first."""
    limit, offset = body.get("limit") or 10, body.get("offset") or 0
    found = assistants.versions(wired(), assistant_id, body.get("metadata"))
    shown = [of_assistant(each) for each in found[offset : offset + limit]]
    for each in shown:
        del each["updated_at"]
    return answers.page(shown, total=len(found), limit=limit, offset=offset)


@blueprint.route("/<assistant:assistant_id>/latest", methods=["POST"])
@blueprint.body(VersionChoice)
@blueprint.response(200, Assistant)
@needs("assistants:write", "assistants.update")
def latest(body: Json, assistant_id: str) -> Response:
    """Put one of an assistant's versions in force."""
    return answers.json(of_assistant(assistants.use_version(wired(), assistant_id, body["version"])))


@blueprint.route("/<assistant_id>/graph")
@blueprint.query(GraphQuery)
@blueprint.response(200, Drawing)
@needs("assistants:read", "assistants.read")
def graph(query: Json, assistant_id: str) -> Response:
    """The nodes and edges of an assistant's graph; the graph's name serves as well as the id."""
    found = wired().catalog.find(assistant_id)
    xray = _xray(query["xray"])
    with wired().catalog.open(found.graph_id) as opened:
        return answers.json(drawing_of(opened, xray))


@blueprint.route("/<assistant:assistant_id>/schemas")
@blueprint.response(200, GraphSchemas)
@needs("assistants:read", "assistants.read")
def schemas(assistant_id: str) -> Response:
    """What an assistant's graph takes and gives, as JSON Schema."""
    found = wired().catalog.find(assistant_id)
    with wired().catalog.open(found.graph_id) as opened:
        return answers.json(schemas_of(found.graph_id, opened))


@blueprint.route("/<assistant:assistant_id>/subgraphs", defaults={"namespace": None})
@blueprint.route("/<assistant:assistant_id>/subgraphs/<namespace>")
@blueprint.query(SubgraphsQuery)
@blueprint.response(200, {"type": "object"})
@needs("assistants:read", "assistants.read")
def subgraphs(query: Json, assistant_id: str, namespace: str | None) -> Response:
    """The schemas of the subgraphs of an assistant's graph, by namespace."""
    found = wired().catalog.find(assistant_id)
    with wired().catalog.open(found.graph_id) as opened:
        inner = opened.get_subgraphs(namespace=namespace, recurse=query["recurse"])
        return answers.json({name: schemas_of(name, each) for name, each in inner})


def _xray(word: str) -> int | bool:
    known = {"true": True, "false": False, "": False}
    if word.lower() in known:
        return known[word.lower()]
    if word.isdecimal() and int(word) <= 100:
        return int(word)
    raise InvalidInput(f"xray: must be true, false or a number of levels up to 100, not {word[:60]!r}")
