"""What happened in a run: its ledger, and what that means in plain words."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from marshmallow import RAISE

from runyard.app import answers
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.schemas.records import RecordList, RecordSchema, WhySchema
from runyard.app.shapes import of_record
from runyard.app.wiring import service
from runyard.engine import records, wire
from runyard.engine.run import Run

blueprint = Resource("records", __name__, url_prefix="/runs", description="What happened in a run, and why.")

Json = dict[str, Any]
LINES = "application/x-ndjson"
#: A page of JSON that names no limit; JSON lines that name none are all there are.
PAGE = 100


@blueprint.route("/<run:run_id>/records")
@blueprint.arguments(RecordList, location="query", unknown=RAISE)
@blueprint.response(200, RecordSchema(many=True))
@needs("runs:read", "threads.read")
def list_records(query: Json, run_id: str) -> Response:
    """A run's ledger, oldest first: attempts, tool calls, model calls, decisions.

    `X-Pagination-Next` is the `after` of the next page. As JSON lines (`Accept: application/x-ndjson` or
    `format=jsonl`) all records that fit are answered, one a line.
    """
    run = service().get_run(run_id)
    wanted = records.Filter(kind=query.get("kind"), node=query.get("node"), status=query.get("status"))
    lines = query["format"] == "jsonl" or request.accept_mimetypes.best == LINES
    return _lines(run, wanted, query) if lines else _page(run, wanted, query)


@blueprint.route("/<run:run_id>/why")
@blueprint.response(200, WhySchema)
@needs("runs:read", "threads.read")
def why(run_id: str) -> Response:
    """Why a run is where it is: what failed, after what, what was decided before, what it cost, what to do next."""
    run = service().get_run(run_id)
    return answers.json(service().why(run).told(run))


def _page(run: Run, wanted: records.Filter, query: Json) -> Response:
    at, limit = service(), query["limit"] or PAGE
    found, after = records.page(at.store, at.keys, run, wanted, after=query["after"], limit=limit)
    return answers.json([of_record(record) for record in found], {"X-Pagination-Next": after} if after else None)


def _lines(run: Run, wanted: records.Filter, query: Json) -> Response:
    at = service()
    found = records.read(at.store, at.keys, run, wanted, after=query["after"], limit=query["limit"])
    named = {"Content-Disposition": f"attachment; filename=records-{run.run_id}.jsonl"}
    return Response((wire.encode(of_record(record)) + b"\n" for record in found), 200, named, mimetype=LINES)
