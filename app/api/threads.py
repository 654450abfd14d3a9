"""Threads: conversations and their labels."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from runyard.app import answers
from runyard.app.api.state import seeding
from runyard.app.auth.scopes import needs
from runyard.app.extracts import extracted
from runyard.app.ids import canonical
from runyard.app.resources import Resource
from runyard.app.schemas.threads import (
    SORT_FIELDS,
    Prune,
    Pruned,
    Thread,
    ThreadCreate,
    ThreadFilter,
    ThreadPatch,
    ThreadQuery,
    ThreadSearch,
    ThreadStorage,
)
from runyard.app.shapes import at, of_storage, of_thread, only
from runyard.app.wiring import service, wired
from runyard.engine import wire
from runyard.engine.store.threads import Thread as EngineThread, TtlStrategy

blueprint = Resource("threads", __name__, url_prefix="/threads", description="Conversations, and what they know.")

Json = dict[str, Any]


@blueprint.route("", methods=["POST"])
@blueprint.body(ThreadCreate, required=False)
@blueprint.response(200, Thread)
@needs("threads:write", "threads.create")
def create(body: Json) -> Response:
    """Make a thread."""
    exist_ok = body.get("if_exists") == "do_nothing"
    with seeding(body) as seed:
        made = service().create_thread(body.get("thread_id"), body.get("metadata"), exist_ok=exist_ok)
        seed(made)
    wanted = _ttl(body["ttl"]) if body.get("ttl") else wired().options.thread_ttl
    if wanted and (body.get("ttl") or made.ttl is None):
        service().set_ttl(made.thread_id, *wanted)
    return answers.json(of_thread(service().get_thread(made.thread_id)))


@blueprint.route("/search", methods=["POST"])
@blueprint.body(ThreadSearch, required=False)
@blueprint.response(200, Thread(many=True))
@needs("threads:read", "threads.search")
def search(body: Json) -> Response:
    """Threads that match all that is given. Headers tell where the next page begins, if there is one, and how many
    match: of what comes after the page at least the next is counted."""
    limit, offset = body.get("limit") or 10, body.get("offset") or 0
    found, total = service().search_threads(
        **_filter(body),
        limit=limit,
        offset=offset,
        **_order(body),
    )
    shown = [_shown(thread, body) for thread in found]
    return answers.page(shown, total=total, limit=limit, offset=offset)


@blueprint.route("/count", methods=["POST"])
@blueprint.body(ThreadFilter, required=False)
@blueprint.response(200, {"type": "integer"})
@needs("threads:read", "threads.search")
def count(body: Json) -> Response:
    """How many threads match."""
    return answers.json(service().count_threads(**_filter(body)))


@blueprint.route("/prune", methods=["POST"])
@blueprint.body(Prune)
@blueprint.response(200, Pruned)
@needs("threads:write", "threads.delete")
def prune(body: Json) -> Response:
    """Delete threads, or their history but for the latest state. Answers how many; what does not exist is left out,
    and so is a thread with an active run when its history is to go."""
    ids = [str(canonical(thread_id)) for thread_id in body["thread_ids"]]
    return answers.json({"pruned_count": service().prune_threads(ids, body.get("strategy") or "delete")})


@blueprint.route("/<thread:thread_id>")
@blueprint.query(ThreadQuery)
@blueprint.response(200, Thread)
@needs("threads:read", "threads.read")
def get(query: Json, thread_id: str) -> Response:
    """A thread as it stands."""
    thread = service().get_thread(thread_id)
    wanted = {name for part in query.get("include") or () for name in part.split(",")}
    return answers.json({**of_thread(thread), **({"ttl": _of_ttl(thread)} if "ttl" in wanted else {})})


@blueprint.route("/<thread:thread_id>/storage")
@blueprint.response(200, ThreadStorage)
@needs("threads:read", "threads.read")
def storage(thread_id: str) -> Response:
    """How much a thread's checkpoints take, by what they are made of."""
    return answers.json(of_storage(thread_id, service().storage(thread_id)))


@blueprint.route("/<thread:thread_id>/copy", methods=["POST"])
@blueprint.response(200, Thread)
@needs("threads:write", "threads.read", "threads.create")
def copy(thread_id: str) -> Response:
    """A new thread with the same labels, state and history."""
    return answers.json(of_thread(service().copy_thread(thread_id)))


@blueprint.route("/<thread:thread_id>", methods=["PATCH"])
@blueprint.body(ThreadPatch)
@blueprint.response(200, Thread)
@blueprint.alt_response(204, description="With the header Prefer: return=minimal.", success=True)
@needs("threads:write", "threads.update")
def patch(body: Json, thread_id: str) -> Response:
    """Merge labels into a thread's."""
    changed = service().update_thread(thread_id, body.get("metadata") or {})
    if ttl := body.get("ttl"):
        changed = service().set_ttl(thread_id, *_ttl(ttl))
    if "return=minimal" in request.headers.get("Prefer", ""):
        return answers.nothing(204)
    return answers.json(of_thread(changed))


@blueprint.route("/<thread:thread_id>", methods=["DELETE"])
@blueprint.response(204)
@needs("threads:write", "threads.delete")
def delete(thread_id: str) -> Response:
    """Delete a thread with its runs and its history."""
    service().delete_thread(thread_id)
    return answers.nothing(204)


def _filter(body: Json) -> Json:
    ids = body.get("ids")
    named = {name: body.get(name) for name in ("metadata", "values", "status")}
    return {**named, "ids": ids if ids is None else list(dict.fromkeys(canonical(each) for each in ids))}


def _order(body: Json) -> Json:
    """By what, and which way: as LangGraph's clients say it, else as Aegra's do, in one text."""
    by, way = body.get("sort_by"), body.get("sort_order")
    said = str(body.get("order_by") or "").lower().split()
    if not by and len(said) == 2 and said[0] in SORT_FIELDS and said[1] in ("asc", "desc"):
        by, way = said
    return {"sort_by": by or "updated_at", "descending": way != "asc"}


def _shown(thread: EngineThread, body: Json) -> Json:
    facts = only(body.get("select"), of_thread(thread))
    if not (paths := body.get("extract")):
        return facts
    known = {**of_thread(thread), "values": wire.decode(thread.values) if thread.values else None}
    return {**facts, "extracted": extracted(known, paths)}


def _ttl(given: float | Json) -> tuple[float, TtlStrategy]:
    if isinstance(given, dict):
        return given["ttl"], given.get("strategy") or "delete"
    return given, "delete"


def _of_ttl(thread: EngineThread) -> Json | None:
    if thread.ttl is None:
        return None
    told = {"ttl_minutes": thread.ttl.minutes, "ttl": thread.ttl.minutes}
    return {**told, "strategy": thread.ttl.strategy, "expires_at": at(thread.ttl.expires_at)}
