"""Items of the long-term store as clients ask for them and see them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

from runyard.app.schemas.fields import Lenient, Value, boolean, is_texts, mapping, text, texts, whole
from runyard.engine.items import MAX_TTL_MIN


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "." not in value and "\0" not in value


def _labels(about: str, *, least: int = 0, **options: Any) -> Value:
    label = {"type": "string", "minLength": 1, "pattern": r"^[^.\u0000]+$"}
    spec = {"type": "array", "items": label, "minItems": least}
    accepted = f"a list of {'one or more ' if least else ''}texts that are not empty and hold no '.'"
    return Value(
        accepted,
        lambda v: isinstance(v, list) and len(v) >= least and all(_is_label(each) for each in v),
        spec,
        about,
        **options,
    )


def _index() -> Value:
    return Value(
        "false or a list of texts",
        lambda v: v is False or is_texts(v),
        {"oneOf": [{"type": "boolean", "enum": [False]}, {"type": "array", "items": {"type": "string"}}]},
        "Paths of the value that a semantic search should know; false: none. Needs an embedding.",
    )


def _minutes() -> Value:
    spec = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TTL_MIN}
    return Value(
        f"a number of minutes above 0, at most {MAX_TTL_MIN}",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= MAX_TTL_MIN,
        spec,
        "Minutes to live after it was last written or read.",
    )


class ItemPut(Lenient):
    namespace = _labels("Where the item is.", least=1, required=True)
    key = text("Its name there.", required=True)
    value = mapping("What it holds.", required=True)
    index = _index()
    ttl = _minutes()


class ItemDelete(Lenient):
    namespace = _labels("Where the item is.", least=1, required=True)
    key = text("Its name there.", required=True)


class ItemQuery(Lenient):
    namespace = fields.String(required=True, metadata={"description": "Where the item is, labels joined by dots."})
    key = fields.String(required=True, metadata={"description": "Its name there."})
    refresh_ttl = fields.Boolean(
        load_default=None, allow_none=True, metadata={"description": "Whether its time to live begins anew. true."}
    )


class ItemSearch(Lenient):
    namespace_prefix = _labels("Items of this namespace and of those below it.")
    filter = mapping('What their values hold: {"a": 1}, or {"a": {"$gt": 1}} with $eq, $ne, $gt, $gte, $lt, $lte.')
    query = text("What to look for by its meaning; without effect while there is no embedding.")
    limit = whole("Most items to answer. 10.", least=1, most=1000)
    offset = whole("How many to leave out.")
    refresh_ttl = boolean("Whether the times to live of what is found begin anew. true.")


class NamespaceSearch(Lenient):
    prefix = texts('What namespaces begin with; "*" stands for any label.')
    suffix = texts('What namespaces end with; "*" stands for any label.')
    max_depth = whole("Cut namespaces to as many labels.", least=1)
    limit = whole("Most namespaces to answer. 100.", least=1, most=1000)
    offset = whole("How many to leave out.")


class Item(Schema):
    """Something that graphs or clients remember."""

    namespace = fields.List(fields.String())
    key = fields.String()
    value = fields.Dict(keys=fields.String())
    created_at = fields.DateTime()
    updated_at = fields.DateTime()


_TIME = {"type": "string", "format": "date-time"}
#: The same, or null when there is none, which marshmallow has no word for.
ITEM_OR_NULL = {
    "type": ["object", "null"],
    "properties": {
        "namespace": {"type": "array", "items": {"type": "string"}},
        "key": {"type": "string"},
        "value": {"type": "object", "additionalProperties": {}},
        "created_at": _TIME,
        "updated_at": _TIME,
    },
    "additionalProperties": False,
}


class FoundItem(Item):
    score = fields.Float(allow_none=True)


class FoundItems(Schema):
    items = fields.List(fields.Nested(FoundItem))


class Namespaces(Schema):
    namespaces = fields.List(fields.List(fields.String()))
