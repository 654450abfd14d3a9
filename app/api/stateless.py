"""Runs without a thread of the client's, and runs by their id alone."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers
from runyard.app.api.runs import cancelled
from runyard.app.api.streams import EVENT_STREAM, joined, started_and_awaited, streaming, waiting
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.run_requests import start, start_all
from runyard.app.schemas.runs import (
    ActionQuery,
    CancelQuery,
    JoinQuery,
    Run,
    RunCreate,
    RunsCancel,
    StatelessRun,
    StreamQuery,
)
from runyard.app.shapes import of_run
from runyard.app.wiring import service, wired
from runyard.engine import bulk
from runyard.engine.errors import InvalidInput, RunNotFound

blueprint = Resource("stateless runs", __name__, url_prefix="/runs", description="Runs without a thread; runs by id.")

Json = dict[str, Any]


@blueprint.route("", methods=["POST"])
@blueprint.body(StatelessRun)
@blueprint.response(200, Run)
@needs("runs:write")
def create(body: Json) -> Response:
    """Start a run on a hidden thread of its own, which goes when the run ends unless on_completion is keep."""
    run = start(wired(), body, body.get("thread_id"))
    return answers.json(of_run(run), {"Content-Location": f"/runs/{run.run_id}"})


@blueprint.route("/batch", methods=["POST"])
@blueprint.arguments(RunCreate(many=True), location="json")
@blueprint.response(200, Run(many=True))
@needs("runs:write")
def create_batch(bodies: list[Json]) -> Response:
    """Start many runs, each on a hidden thread of its own; none when one of them is wrong."""
    if not bodies:
        raise InvalidInput("the body must be a list of at least one run")
    return answers.json([of_run(run) for run in start_all(wired(), bodies)])


@blueprint.route("/cancel", methods=["POST"])
@blueprint.body(RunsCancel)
@blueprint.query(ActionQuery)
@blueprint.response(204)
@needs("runs:write", "threads.update")
def cancel_many(body: Json, query: Json) -> Response:
    """End many runs early: those of a thread that are named, or all of a status."""
    if body.get("status"):
        ended = bulk.cancel_all(service(), body["status"], query["action"])
    else:
        ended = bulk.cancel_named(service(), body["thread_id"], body["run_ids"], query["action"])
    if not ended:
        raise RunNotFound("No run that has not ended matches.")
    return answers.nothing(204)


@blueprint.route("/wait", methods=["POST"])
@blueprint.body(StatelessRun)
@blueprint.response(200, {}, description='The values, or {"__error__": …}.')
@needs("runs:write")
def wait(body: Json) -> Response:
    """Start a run and answer its result when it has ended."""
    return started_and_awaited(body, body.get("thread_id"))


@blueprint.route("/stream", methods=["POST"])
@blueprint.body(StatelessRun)
@blueprint.response(200, **EVENT_STREAM)
@needs("runs:write")
def stream(body: Json) -> Response:
    """Start a run and stream what it tells."""
    run = start(wired(), body, body.get("thread_id"))
    return streaming(run, cancel=body.get("on_disconnect") == "cancel", here=f"/runs/{run.run_id}")


@blueprint.route("/<run:run_id>")
@blueprint.response(200, Run)
@needs("runs:read", "threads.read")
def get(run_id: str) -> Response:
    """A run as it stands, by its id alone."""
    run = service().get_run(run_id)
    return answers.json(of_run(run, service().asked(run)))


@blueprint.route("/<run:run_id>", methods=["DELETE"])
@blueprint.response(204)
@needs("runs:write", "threads.delete")
def delete(run_id: str) -> Response:
    """Forget a run and its checkpoints, by its id alone."""
    service().delete_run(service().get_run(run_id))
    return answers.nothing(204)


@blueprint.route("/<run:run_id>/cancel", methods=["POST"])
@blueprint.query(CancelQuery)
@blueprint.response(202, description="The run will end.")
@blueprint.alt_response(200, schema={"type": "object"}, description="With wait=1: the run has ended.", success=True)
@needs("runs:write", "threads.update")
def cancel(query: Json, run_id: str) -> Response:
    """End a run early, by its id alone."""
    return cancelled(service().get_run(run_id), query)


@blueprint.route("/<run:run_id>/join")
@blueprint.route("/<run:run_id>/wait")
@blueprint.query(JoinQuery)
@blueprint.response(200, {}, description='The values, or {"__error__": …}.')
@needs("runs:read", "threads.read")
def join(query: Json, run_id: str) -> Response:
    """The result of a run, when it has ended."""
    return waiting(service().get_run(run_id), cancel=query["cancel_on_disconnect"])


@blueprint.route("/<run:run_id>/stream")
@blueprint.query(StreamQuery)
@blueprint.response(200, **EVENT_STREAM)
@needs("runs:read", "threads.read")
def join_stream(query: Json, run_id: str) -> Response:
    """What a run tells from now on, or from the event after the header Last-Event-ID (-1: from the start)."""
    return joined(service().get_run(run_id), query)
