"""The neutral Agent Protocol's names for what is here: an agent is an assistant."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers, assistants
from runyard.app.auth.scopes import needs
from runyard.app.json_schemas import schemas_of
from runyard.app.resources import Resource
from runyard.app.schemas.agents import Agent, AgentSchemas, AgentSearch
from runyard.app.wiring import wired
from runyard.engine.store.assistants import Assistant

blueprint = Resource("agents", __name__, url_prefix="/agents", description="Assistants, in the Agent Protocol's words.")

Json = dict[str, Any]


@blueprint.route("/search", methods=["POST"])
@blueprint.body(AgentSearch, required=False)
@blueprint.response(200, Agent(many=True))
@needs("assistants:read", "assistants.search")
def search(body: Json) -> Response:
    """Agents that match all that is given."""
    found = sorted(assistants.search(wired(), body), key=lambda each: assistants.order(each, "created_at"))
    limit, offset = body.get("limit") or 10, body.get("offset") or 0
    shown = [_of_agent(each) for each in found[offset : offset + limit]]
    return answers.page(shown, total=len(found), limit=limit, offset=offset)


@blueprint.route("/<assistant_id>")
@blueprint.response(200, Agent)
@needs("assistants:read", "assistants.read")
def get(assistant_id: str) -> Response:
    """An agent by its id, or by the name of its graph."""
    return answers.json(_of_agent(wired().catalog.find(assistant_id)))


@blueprint.route("/<assistant_id>/schemas")
@blueprint.response(200, AgentSchemas)
@needs("assistants:read", "assistants.read")
def schemas(assistant_id: str) -> Response:
    """What an agent takes and gives, as JSON Schema."""
    found = wired().catalog.find(assistant_id)
    with wired().catalog.open(found.graph_id) as opened:
        told = schemas_of(found.graph_id, opened)
    return answers.json({"agent_id": found.assistant_id, **{name: told[name] or {} for name in _SCHEMAS}})


_SCHEMAS = ("input_schema", "output_schema", "state_schema", "config_schema")


def _of_agent(assistant: Assistant) -> Json:
    return {
        "agent_id": assistant.assistant_id,
        "name": assistant.name,
        "description": assistant.description or "",
        "metadata": assistant.metadata,
        "capabilities": {"ap.io.streaming": True},
    }
