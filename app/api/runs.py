"""Runs on a thread: start, look, cancel, forget. What is waited for is in streams."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers, sse
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.run_requests import start
from runyard.app.schemas.runs import CancelQuery, Run, RunCreate, RunList
from runyard.app.shapes import of_run, only
from runyard.app.wiring import service, wired
from runyard.engine.errors import InvalidTransition, RunNotFound
from runyard.engine.run import TERMINAL, CancelAction, Run as EngineRun

blueprint = Resource(
    "runs", __name__, url_prefix="/threads/<thread:thread_id>/runs", description="Requests on a thread."
)

Json = dict[str, Any]


@blueprint.route("", methods=["POST"])
@blueprint.body(RunCreate)
@blueprint.response(200, Run)
@needs("runs:write")
def create(body: Json, thread_id: str) -> Response:
    """Start a run and answer at once; poll it, join it or stream it by its id."""
    run = start(wired(), body, thread_id)
    return answers.json(of_run(run), {"Content-Location": f"/threads/{thread_id}/runs/{run.run_id}"})


@blueprint.route("")
@blueprint.query(RunList)
@blueprint.response(200, Run(many=True))
@needs("runs:read", "threads.search")
def list_runs(query: Json, thread_id: str) -> Response:
    """The runs of a thread, newest first."""
    found = service().list_runs(thread_id, limit=query["limit"], offset=query["offset"], status=query.get("status"))
    return answers.json([only(query.get("select"), of_run(run)) for run in found])


@blueprint.route("/<run:run_id>")
@blueprint.response(200, Run)
@needs("runs:read", "threads.read")
def get(thread_id: str, run_id: str) -> Response:
    """A run as it stands."""
    run = service().get_run(run_id, thread_id)
    return answers.json(of_run(run, service().asked(run)))


@blueprint.route("/<run:run_id>", methods=["DELETE"])
@blueprint.response(204)
@needs("runs:write", "threads.delete")
def delete(thread_id: str, run_id: str) -> Response:
    """Forget a run, under way or over, and its checkpoints: the thread is then where it was before, unless another run
    has gone on from there."""
    service().delete_run(service().get_run(run_id, thread_id))
    return answers.nothing(204)


@blueprint.route("/<run:run_id>/cancel", methods=["POST"])
@blueprint.query(CancelQuery)
@blueprint.response(202, description="The run will end.")
@blueprint.alt_response(200, schema={"type": "object"}, description="With wait=1: the run has ended.", success=True)
@needs("runs:write", "threads.update")
def cancel(query: Json, thread_id: str, run_id: str) -> Response:
    """End a run early."""
    return cancelled(service().get_run(run_id, thread_id), query)


def cancelled(run: EngineRun, query: Json) -> Response:
    """The answer to who ends a run early. Raises RunNotFound for one that is over."""
    if not _ask_to_end(run, query["action"]):  # for LangGraph's clients there is nothing to cancel, and that is a 404
        raise RunNotFound(f"Run {run.run_id} is over already; there is nothing to cancel.")
    if query["wait"]:
        here = f"/threads/{run.thread_id}/runs/{run.run_id}"
        headers = {"Location": f"{here}/join", "Content-Location": here}
        return answers.chunked(lambda live: sse.ending(live, run, query["action"]), headers)
    return answers.nothing(202)


def _ask_to_end(run: EngineRun, action: CancelAction) -> bool:
    """Whether there was something to end. The engine itself takes a second request for the same end as a repetition."""
    if run.phase in TERMINAL:
        return False
    try:
        service().cancel_run(run, action)
    except InvalidTransition:  # it ended in the meantime
        return False
    return True
