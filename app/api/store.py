"""The long-term store: what graphs remember beyond a thread, and what clients tell them to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Response
from langgraph.store.base import NOT_PROVIDED

from runyard.app import answers
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.schemas.store import (
    ITEM_OR_NULL,
    FoundItems,
    ItemDelete,
    ItemPut,
    ItemQuery,
    ItemSearch,
    Namespaces,
    NamespaceSearch,
)
from runyard.app.wiring import wired
from runyard.engine.errors import InvalidInput
from runyard.engine.items import RedisItems, ttl_of

blueprint = Resource("store", __name__, url_prefix="/store", description="What is remembered beyond a thread.")

Json = dict[str, Any]


@blueprint.route("/items", methods=["PUT"])
@blueprint.body(ItemPut)
@blueprint.response(204)
@needs("store:write", "store.put")
def put(body: Json) -> Response:
    """Store an item, new or in the place of the one there is."""
    ttl = NOT_PROVIDED if body.get("ttl") is None else body["ttl"]
    with _items() as items:
        items.put(tuple(body["namespace"]), body["key"], body["value"], body.get("index"), ttl=ttl)
    return answers.nothing(204)


@blueprint.route("/items")
@blueprint.query(ItemQuery)
@blueprint.response(200, ITEM_OR_NULL)
@needs("store:read", "store.get")
def get(query: Json) -> Response:
    """An item; null when there is none."""
    with _items() as items:
        given = query["namespace"]
        namespace = tuple(given.split(".") if isinstance(given, str) else given)  # labels, once a handler has seen it
        found = items.get(namespace, query["key"], refresh_ttl=query["refresh_ttl"])
    return answers.json(found.dict() if found else None)


@blueprint.route("/items", methods=["DELETE"])
@blueprint.body(ItemDelete)
@blueprint.response(204)
@needs("store:write", "store.delete")
def delete(body: Json) -> Response:
    """Delete an item, if there is one."""
    with _items() as items:
        items.delete(tuple(body["namespace"]), body["key"])
    return answers.nothing(204)


@blueprint.route("/items/search", methods=["POST"])
@blueprint.body(ItemSearch, required=False)
@blueprint.response(200, FoundItems)
@needs("store:read", "store.search")
def search(body: Json) -> Response:
    """Items below a namespace that pass a filter: namespaces by their labels, items in the order of their making. With
    a query, and an embedding, the nearest first."""
    with _items() as items:
        found = items.search(
            tuple(body.get("namespace_prefix") or ()),
            query=body.get("query"),
            filter=body.get("filter"),
            limit=body.get("limit") or 10,
            offset=body.get("offset") or 0,
            refresh_ttl=body.get("refresh_ttl"),
        )
    return answers.json({"items": [item.dict() for item in found]})


@blueprint.route("/namespaces", methods=["POST"])
@blueprint.body(NamespaceSearch, required=False)
@blueprint.response(200, Namespaces)
@needs("store:read", "store.list_namespaces")
def namespaces(body: Json) -> Response:
    """Namespaces that have items, by their labels."""
    with _items() as items:
        found = items.list_namespaces(
            prefix=tuple(body.get("prefix") or ()) or None,
            suffix=tuple(body.get("suffix") or ()) or None,
            max_depth=body.get("max_depth"),
            limit=body.get("limit") or 100,
            offset=body.get("offset") or 0,
        )
    return answers.json({"namespaces": found})


@contextmanager
def _items() -> Iterator[RedisItems]:
    """The store; what it refuses is the request's fault."""
    wiring = wired()
    service = wiring.service
    try:
        ttl = ttl_of(wiring.project.store)
        yield RedisItems(service.keys, sync_store=service.store, ttl=ttl, index=wiring.index)
    except ValueError as error:  # LangGraph's own word for a namespace, and for an operator, that cannot be
        raise InvalidInput(str(error)) from error
