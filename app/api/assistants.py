"""Assistants: one for each graph of the project."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers
from runyard.app.catalog import drawing_of
from runyard.app.json_schemas import schemas_of
from runyard.app.resources import Resource
from runyard.app.schemas.assistants import (
    Assistant,
    AssistantFilter,
    AssistantSearch,
    Drawing,
    GraphQuery,
    GraphSchemas,
    SubgraphsQuery,
)
from runyard.app.shapes import only
from runyard.app.wiring import wired
from runyard.engine.errors import InvalidInput

blueprint = Resource("assistants", __name__, url_prefix="/assistants", description="Graphs that can be run.")

Json = dict[str, Any]


@blueprint.route("/search", methods=["POST"])
@blueprint.body(AssistantSearch, required=False)
@blueprint.response(200, Assistant(many=True))
def search(body: Json) -> Response:
    """Assistants that match all that is given."""
    found = _matching(body)
    sort_by = body.get("sort_by") or "created_at"
    found.sort(key=lambda facts: facts[sort_by], reverse=body.get("sort_order") != "asc")
    limit, offset = body.get("limit") or 10, body.get("offset") or 0
    shown = [only(body.get("select"), facts) for facts in found[offset : offset + limit]]
    return answers.page(shown, total=len(found), limit=limit, offset=offset)


@blueprint.route("/count", methods=["POST"])
@blueprint.body(AssistantFilter, required=False)
@blueprint.response(200, {"type": "integer"})
def count(body: Json) -> Response:
    """How many assistants match."""
    return answers.json(len(_matching(body)))


@blueprint.route("/<assistant:assistant_id>")
@blueprint.response(200, Assistant)
def get(assistant_id: str) -> Response:
    """An assistant by its id."""
    return answers.json(wired().catalog.find(assistant_id).facts())


@blueprint.route("/<assistant_id>/graph")
@blueprint.query(GraphQuery)
@blueprint.response(200, Drawing)
def graph(query: Json, assistant_id: str) -> Response:
    """The nodes and edges of an assistant's graph; the graph's name serves as well as the id."""
    found = wired().catalog.find(assistant_id)
    xray = _xray(query["xray"])
    with wired().catalog.open(found.graph_id) as opened:
        return answers.json(drawing_of(opened, xray))


@blueprint.route("/<assistant:assistant_id>/schemas")
@blueprint.response(200, GraphSchemas)
def schemas(assistant_id: str) -> Response:
    """What an assistant's graph takes and gives, as JSON Schema."""
    found = wired().catalog.find(assistant_id)
    with wired().catalog.open(found.graph_id) as opened:
        return answers.json(schemas_of(found.graph_id, opened))


@blueprint.route("/<assistant:assistant_id>/subgraphs", defaults={"namespace": None})
@blueprint.route("/<assistant:assistant_id>/subgraphs/<namespace>")
@blueprint.query(SubgraphsQuery)
@blueprint.response(200, {"type": "object"})
def subgraphs(query: Json, assistant_id: str, namespace: str | None) -> Response:
    """The schemas of the subgraphs of an assistant's graph, by namespace."""
    found = wired().catalog.find(assistant_id)
    with wired().catalog.open(found.graph_id) as opened:
        inner = opened.get_subgraphs(namespace=namespace, recurse=query["recurse"])
        return answers.json({name: schemas_of(name, each) for name, each in inner})


def _matching(wanted: Json) -> list[Json]:
    name = (wanted.get("name") or "").lower()
    return [
        facts
        for facts in (assistant.facts() for assistant in wired().catalog.all())
        if wanted.get("graph_id") in (None, facts["graph_id"])
        and name in facts["name"].lower()
        and (wanted.get("metadata") or {}).items() <= facts["metadata"].items()
    ]


def _xray(word: str) -> int | bool:
    known = {"true": True, "false": False, "": False}
    if word.lower() in known:
        return known[word.lower()]
    if word.isdecimal() and int(word) <= 100:
        return int(word)
    raise InvalidInput(f"xray: must be true, false or a number of levels up to 100, not {word[:60]!r}")
