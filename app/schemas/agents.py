"""Assistants in the Agent Protocol's words."""

from __future__ import annotations

from marshmallow import Schema, fields

from runyard.app.schemas.fields import Lenient, mapping, text, whole


class AgentSearch(Lenient):
    name = text("Part of the name, in either case.")
    metadata = mapping("Agents whose metadata holds all of this.")
    limit = whole("Most agents to answer. 10.", least=1, most=1000)
    offset = whole("How many to leave out.")


class Agent(Schema):
    agent_id = fields.UUID()
    name = fields.String()
    description = fields.String()
    metadata = fields.Dict(keys=fields.String())
    capabilities = fields.Dict(keys=fields.String())


class AgentSchemas(Schema):
    agent_id = fields.UUID()
    input_schema = fields.Dict(keys=fields.String())
    output_schema = fields.Dict(keys=fields.String())
    state_schema = fields.Dict(keys=fields.String())
    config_schema = fields.Dict(keys=fields.String())
