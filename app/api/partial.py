"""What a run has produced so far, whatever became of it."""

from __future__ import annotations

from flask import Response

from runyard.app import answers
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.schemas.dead_letters import Partial
from runyard.app.shapes import of_partial
from runyard.app.wiring import service, wired
from runyard.engine import state

blueprint = Resource("partial results", __name__, url_prefix="/runs", description="What runs have produced so far.")


@blueprint.route("/<run:run_id>/partial")
@blueprint.response(200, Partial)
@needs("runs:read", "threads.read")
def get(run_id: str) -> Response:
    """What each node of a run has produced so far: while it runs, after it failed, when it is over."""
    run = service().get_run(run_id)
    with wired().catalog.open(run.graph_id, run.thread_id) as graph:
        return answers.json(of_partial(run, state.partial(graph, service().saver, run)))
