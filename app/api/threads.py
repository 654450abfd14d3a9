"""Threads: conversations and their labels."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from runyard.app import answers
from runyard.app.resources import Resource
from runyard.app.schemas.threads import Thread, ThreadCreate, ThreadFilter, ThreadPatch, ThreadSearch
from runyard.app.shapes import of_thread, only
from runyard.app.wiring import service

blueprint = Resource("threads", __name__, url_prefix="/threads", description="Conversations, and what they know.")

Json = dict[str, Any]


@blueprint.route("", methods=["POST"])
@blueprint.body(ThreadCreate, required=False)
@blueprint.response(200, Thread)
def create(body: Json) -> Response:
    """Make a thread."""
    exist_ok = body.get("if_exists") == "do_nothing"
    made = service().create_thread(body.get("thread_id"), body.get("metadata"), exist_ok=exist_ok)
    return answers.json(of_thread(made))


@blueprint.route("/search", methods=["POST"])
@blueprint.body(ThreadSearch, required=False)
@blueprint.response(200, Thread(many=True))
def search(body: Json) -> Response:
    """Threads that match all that is given. Headers tell how many there are and where the next page begins."""
    limit, offset = body.get("limit") or 10, body.get("offset") or 0
    found, total = service().search_threads(
        **_filter(body),
        limit=limit,
        offset=offset,
        sort_by=body.get("sort_by") or "updated_at",
        descending=body.get("sort_order") != "asc",
    )
    shown = [only(body.get("select"), of_thread(thread)) for thread in found]
    return answers.page(shown, total=total, limit=limit, offset=offset)


@blueprint.route("/count", methods=["POST"])
@blueprint.body(ThreadFilter, required=False)
@blueprint.response(200, {"type": "integer"})
def count(body: Json) -> Response:
    """How many threads match."""
    return answers.json(service().search_threads(**_filter(body), limit=0)[1])


@blueprint.route("/<thread:thread_id>")
@blueprint.response(200, Thread)
def get(thread_id: str) -> Response:
    """A thread as it stands."""
    return answers.json(of_thread(service().get_thread(thread_id)))


@blueprint.route("/<thread:thread_id>", methods=["PATCH"])
@blueprint.body(ThreadPatch)
@blueprint.response(200, Thread)
@blueprint.alt_response(204, description="With the header Prefer: return=minimal.", success=True)
def patch(body: Json, thread_id: str) -> Response:
    """Merge labels into a thread's."""
    changed = service().update_thread(thread_id, body.get("metadata") or {})
    if "return=minimal" in request.headers.get("Prefer", ""):
        return answers.nothing(204)
    return answers.json(of_thread(changed))


@blueprint.route("/<thread:thread_id>", methods=["DELETE"])
@blueprint.response(204)
def delete(thread_id: str) -> Response:
    """Delete a thread with its runs and its history."""
    service().delete_thread(thread_id)
    return answers.nothing(204)


def _filter(body: Json) -> Json:
    return {name: body.get(name) for name in ("metadata", "values", "status", "ids")}
