"""Assistants as clients ask for them and see them."""

from __future__ import annotations

from marshmallow import Schema, fields

from runyard.app.schemas.fields import Flag, Lenient, mapping, one_of, text, texts, uuid, whole

ASSISTANT_FIELDS = (
    *("assistant_id", "graph_id", "config", "context", "metadata", "name", "description"),
    *("version", "created_at", "updated_at"),
)


class AssistantCreate(Lenient):
    graph_id = text("The graph it runs.", required=True)
    assistant_id = uuid("Its id; made by the server when left out.")
    config = mapping("Under the config of its runs; configurable and context mirror each other.")
    context = mapping("Under the context of its runs.")
    metadata = mapping("Your own labels, to search by; under the metadata of its runs.")
    name = text("Untitled, when left out.")
    description = text()
    if_exists = one_of(["raise", "do_nothing"], "What to do when the assistant exists. raise.")


class AssistantPatch(Lenient):
    graph_id = text("The graph it runs from now on.")
    config = mapping("Takes the place of the config there is.")
    context = mapping("Takes the place of the context there is.")
    metadata = mapping("Merged into the metadata there is, key by key.")
    name = text()
    description = text()


class DeleteQuery(Lenient):
    delete_threads = Flag("Also the threads whose last run was this assistant's.")


class VersionSearch(Lenient):
    metadata = mapping("Versions whose metadata holds all of this.")
    limit = whole("Most versions to answer. 10.", least=1, most=1000)
    offset = whole("How many of the newest to leave out.")


class VersionChoice(Lenient):
    version = whole("The version to put in force.", least=1, required=True)


class AssistantFilter(Lenient):
    metadata = mapping("Assistants whose metadata holds all of this.")
    graph_id = text("Assistants of this graph.")
    name = text("Assistants whose name contains this, in any case.")


class AssistantSearch(AssistantFilter):
    limit = whole("Most assistants to answer. 10.", least=1, most=1000)
    offset = whole("How many matching assistants to leave out.")
    sort_by = one_of(["assistant_id", "graph_id", "name", "created_at", "updated_at"], "created_at")
    sort_order = one_of(["asc", "desc"], "desc")
    select = texts("Answer only these fields.", among=ASSISTANT_FIELDS)


class AssistantVersion(Schema):
    """An assistant as it once was."""

    assistant_id = fields.UUID()
    graph_id = fields.String()
    config = fields.Dict(keys=fields.String())
    context = fields.Dict(keys=fields.String())
    metadata = fields.Dict(keys=fields.String())
    name = fields.String()
    description = fields.String(allow_none=True)
    version = fields.Integer()
    created_at = fields.DateTime()


class Assistant(AssistantVersion):
    """A graph that can be run."""

    updated_at = fields.DateTime()


class GraphQuery(Lenient):
    xray = fields.String(load_default="false", metadata={"description": "true, false, or how many levels deep."})


class SubgraphsQuery(Lenient):
    recurse = Flag("Also the subgraphs of subgraphs.")


class Drawing(Schema):
    """A graph's nodes and edges."""

    nodes = fields.List(fields.Dict(keys=fields.String()))
    edges = fields.List(fields.Dict(keys=fields.String()))


class GraphSchemas(Schema):
    """JSON Schemas of what a graph takes and gives; null where one cannot be told."""

    graph_id = fields.String()
    input_schema = fields.Dict(allow_none=True)
    output_schema = fields.Dict(allow_none=True)
    state_schema = fields.Dict(allow_none=True)
    config_schema = fields.Dict(allow_none=True)
    context_schema = fields.Dict(allow_none=True)
