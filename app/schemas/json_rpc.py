"""What JSON-RPC answers."""

from __future__ import annotations

from marshmallow import Schema, fields

from runyard.app.schemas.fields import Lenient


class RpcFault(Schema):
    code = fields.Integer(required=True)
    message = fields.String(required=True)


class RpcAnswer(Schema):
    """A result, or an error."""

    jsonrpc = fields.String(required=True)
    id = fields.Raw(required=True, allow_none=True, metadata={"description": "The request's."})
    result = fields.Dict(keys=fields.String())
    error = fields.Nested(RpcFault)


class CardQuery(Lenient):
    assistant_id = fields.String(required=True, metadata={"description": "An assistant's id, or the name of a graph."})


class AgentCard(Schema):
    """What an agent can do and where it is."""

    protocolVersion = fields.String()  # noqa: N815 - the protocol's names
    name = fields.String()
    description = fields.String()
    url = fields.String()
    preferredTransport = fields.String()  # noqa: N815
    supportedInterfaces = fields.List(fields.Dict(keys=fields.String()))  # noqa: N815
    capabilities = fields.Dict(keys=fields.String())
    defaultInputModes = fields.List(fields.String())  # noqa: N815
    defaultOutputModes = fields.List(fields.String())  # noqa: N815
    skills = fields.List(fields.Dict(keys=fields.String()))
    version = fields.String()
