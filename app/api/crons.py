"""Crons: runs that are started again and again."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers, crons
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.schemas.crons import Cron, CronCreate, CronFilter, CronPatch, CronSearch
from runyard.app.shapes import of_cron, only
from runyard.app.wiring import wired

blueprint = Resource("crons", __name__, description="Runs that are started again and again, on a schedule.")

Json = dict[str, Any]


@blueprint.route("/threads/<thread:thread_id>/runs/crons", methods=["POST"])
@blueprint.body(CronCreate)
@blueprint.response(200, Cron)
@needs("crons:write", "crons.create")
def create_for_thread(body: Json, thread_id: str) -> Response:
    """Start a run on a thread again and again."""
    return answers.json(of_cron(crons.create(wired(), body, thread_id)))


@blueprint.route("/runs/crons", methods=["POST"])
@blueprint.body(CronCreate)
@blueprint.response(200, Cron)
@needs("crons:write", "crons.create")
def create(body: Json) -> Response:
    """Start a run again and again, each on a thread of its own."""
    return answers.json(of_cron(crons.create(wired(), body)))


@blueprint.route("/runs/crons/search", methods=["POST"])
@blueprint.body(CronSearch, required=False)
@blueprint.response(200, Cron(many=True))
@needs("crons:read", "crons.search")
def search(body: Json) -> Response:
    """Crons that match all that is given. Headers tell how many there are and where the next page begins."""
    limit, offset = body.get("limit") or 10, body.get("offset") or 0
    found = crons.search(wired(), body)
    sort_by = body.get("sort_by") or "created_at"
    found.sort(key=lambda cron: crons.order(cron, sort_by), reverse=body.get("sort_order") != "asc")
    shown = [only(body.get("select"), of_cron(cron)) for cron in found[offset : offset + limit]]
    return answers.page(shown, total=len(found), limit=limit, offset=offset)


@blueprint.route("/runs/crons/count", methods=["POST"])
@blueprint.body(CronFilter, required=False)
@blueprint.response(200, {"type": "integer"})
@needs("crons:read", "crons.search")
def count(body: Json) -> Response:
    """How many crons match."""
    return answers.json(len(crons.search(wired(), body)))


@blueprint.route("/runs/crons/<cron:cron_id>")
@blueprint.response(200, Cron)
@needs("crons:read", "crons.read")
def get(cron_id: str) -> Response:
    """A cron as it stands."""
    return answers.json(of_cron(wired().crons.get(cron_id)))


@blueprint.route("/runs/crons/<cron:cron_id>", methods=["PATCH"])
@blueprint.body(CronPatch)
@blueprint.response(200, Cron)
@needs("crons:write", "crons.update")
def patch(body: Json, cron_id: str) -> Response:
    """Change a cron. Its next time is counted anew when the schedule, the time zone, the end or `enabled` changes."""
    return answers.json(of_cron(crons.change(wired(), cron_id, body)))


@blueprint.route("/runs/crons/<cron:cron_id>", methods=["DELETE"])
@blueprint.response(204)
@needs("crons:write", "crons.delete")
def delete(cron_id: str) -> Response:
    """Delete a cron. Runs that it has started go on."""
    wired().crons.delete(cron_id)
    return answers.nothing(204)
