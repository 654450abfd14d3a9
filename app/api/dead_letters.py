"""Dead letters: runs that failed for good, found, understood and repaired."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from flask import Response
from marshmallow import RAISE

from runyard.app import answers
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.schemas.dead_letters import (
    BulkLine,
    BulkReplay,
    Discard,
    Letter,
    LetterFilter,
    LetterList,
    LetterSummary,
    Repair as RepairBody,
)
from runyard.app.schemas.runs import Run
from runyard.app.shapes import of_letter, of_run
from runyard.app.wiring import Wiring, service, wired
from runyard.engine import wire
from runyard.engine.dead_letters import REPLAYED, DeadLetters, OpenGraph
from runyard.engine.letter import Filter, Repair
from runyard.engine.run import Run as EngineRun
from runyard.engine.worker import Graph

blueprint = Resource(
    "dead letters", __name__, url_prefix="/dead-letters", description="Runs that failed for good, to be repaired."
)

Json = dict[str, Any]
LINES = "application/x-ndjson"


@blueprint.route("")
@blueprint.arguments(LetterList, location="query", unknown=RAISE)
@blueprint.response(200, LetterSummary(many=True))
@needs("dead-letters:read")
def search(query: Json) -> Response:
    """Dead letters that fit all filters, newest first. Headers tell where the next page begins, and how
    many fit: with filters other than ages no further than the next page's first."""
    limit, offset = query["limit"], query["offset"]
    found, total = letters().search(to_filter(query), limit=limit, offset=offset)
    return answers.page([of_letter(letter) for letter in found], total=total, limit=limit, offset=offset)


@blueprint.route("/export")
@blueprint.arguments(LetterFilter, location="query", unknown=RAISE)
@blueprint.response(200, Letter, content_type=LINES, description="One dead letter a line, newest first.")
@needs("dead-letters:read")
def export(query: Json) -> Response:
    """Everything that is known of the dead letters that fit, as JSON lines."""
    found = letters().export(to_filter(query))
    named = {"Content-Disposition": "attachment; filename=dead-letters.jsonl"}
    return Response((_line(of_letter(letter)) for letter in found), 200, named, mimetype=LINES)


@blueprint.route("/<run:run_id>")
@blueprint.response(200, Letter)
@needs("dead-letters:read")
def get(run_id: str) -> Response:
    """All that is known of a dead letter."""
    return answers.json(of_letter(letters().get(run_id)))


@blueprint.route("/<run:run_id>/replay", methods=["POST"])
@blueprint.body(RepairBody, required=False)
@blueprint.response(200, Run)
@blueprint.alt_response(409, description="It is not a dead letter, or another run has its thread.")
@needs("dead-letters:admin")
def replay(body: Json, run_id: str) -> Response:
    """Take a run up again where it failed, perhaps repaired. It keeps its id; what is finished is not run again."""
    repair, run = to_repair(body), service().get_run(run_id)
    with contextlib.ExitStack() as opened:
        graph = opened.enter_context(graphs(wired())(run)) if repair.needs_graph else None
        return answers.json(of_run(letters().replay(run_id, repair, graph)))


@blueprint.route("/replay", methods=["POST"])
@blueprint.body(BulkReplay)
@blueprint.response(200, BulkLine, content_type=LINES, description="One run a line as it is replayed; at last a count.")
@needs("dead-letters:admin")
def replay_all(body: Json) -> Response:
    """Replay the dead letters that fit, oldest first, no faster than asked for.

    The answer comes as JSON lines while it goes on: a thousand at ten a second take longer than proxies wait in
    silence, and a client that is cut off knows what was done. Replaying ends when the client goes.
    """
    how: Json = {"per_second": body.get("per_second") or 10.0, "limit": body.get("limit") or 1000}
    told = letters().replay_all(to_filter(body), to_repair(body), open_graph=graphs(wired()), **how)
    return Response(_bulk_lines(told), 200, {"X-Accel-Buffering": "no"}, mimetype=LINES)


@blueprint.route("/<run:run_id>/discard", methods=["POST"])
@blueprint.body(Discard)
@blueprint.response(204)
@needs("dead-letters:admin")
def discard(body: Json, run_id: str) -> Response:
    """Take a run off the dead letters for good. Its record stays, with the reason, until retention."""
    letters().discard(run_id, body["reason"].strip())
    return answers.nothing(204)


def letters() -> DeadLetters:
    return DeadLetters(service())


def graphs(wiring: Wiring) -> OpenGraph:
    """Opens the graph of a run; also after the request, while its answer is being streamed."""

    def open_graph(run: EngineRun) -> contextlib.AbstractContextManager[Graph]:
        return wiring.catalog.open(run.graph_id, run.thread_id)

    return open_graph


def to_filter(given: Json) -> Filter:
    return Filter(
        graph_id=given.get("graph_id"),
        node=given.get("node"),
        fingerprint=given.get("fingerprint"),
        graph_fingerprint=given.get("graph_fingerprint"),
        older_than_s=given.get("older_than"),
        younger_than_s=given.get("younger_than"),
    )


def to_repair(given: Json) -> Repair:
    return Repair(
        values=given.get("values"),
        as_node=given.get("as_node"),
        output=given.get("output"),
        skip=tuple(given.get("skip") or ()),
        goto=given.get("goto"),
        accept_change=bool(given.get("accept_change")),
    )


def _bulk_lines(told: Iterator[tuple[str, str]]) -> Iterator[bytes]:
    replayed = refused = 0
    for run_id, word in told:
        done = word == REPLAYED
        replayed, refused = replayed + done, refused + (not done)
        yield _line({"run_id": run_id, "replayed": done, **({} if done else {"detail": word})})
    yield _line({"done": True, "replayed": replayed, "refused": refused})


def _line(value: Json) -> bytes:
    return wire.encode(value) + b"\n"
