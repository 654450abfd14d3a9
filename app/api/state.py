"""A thread's state: read, edited, and as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response

from runyard.app import answers
from runyard.app.auth.scopes import needs
from runyard.app.errors import BadRequest
from runyard.app.resources import Resource
from runyard.app.schemas.threads import (
    HistoryQuery,
    HistoryRead,
    StatePatch,
    StateQuery,
    StateRead,
    StateUpdate,
    Thread,
    ThreadState,
    Updated,
)
from runyard.app.shapes import EMPTY_STATE, of_thread, only
from runyard.app.wiring import service, wired
from runyard.engine import state
from runyard.engine.errors import EngineError, InvalidInput, NotFound
from runyard.engine.store.threads import Thread as EngineThread
from runyard.engine.worker import Graph

blueprint = Resource("state", __name__, url_prefix="/threads/<thread:thread_id>", description="What a thread knows.")

Json = dict[str, Any]


@blueprint.route("/state")
@blueprint.query(StateQuery)
@blueprint.response(200, ThreadState)
@needs("threads:read", "threads.read")
def get(query: Json, thread_id: str) -> Response:
    """A thread's state now; all-empty before its first run."""
    return answers.json(_selected(query, _read(thread_id, None, subgraphs=query["subgraphs"])))


@blueprint.route("/state/<checkpoint:checkpoint_id>")
@blueprint.query(StateQuery)
@blueprint.response(200, ThreadState)
@needs("threads:read", "threads.read")
def get_at(query: Json, thread_id: str, checkpoint_id: str) -> Response:
    """A thread's state at one of its checkpoints."""
    found = _read(thread_id, {"checkpoint_id": checkpoint_id}, subgraphs=query["subgraphs"])
    return answers.json(_selected(query, found))


@blueprint.route("/state/checkpoint", methods=["POST"])
@blueprint.body(StateRead)
@blueprint.response(200, ThreadState)
@needs("threads:read", "threads.read")
def get_at_checkpoint(body: Json, thread_id: str) -> Response:
    """A thread's state at a checkpoint, perhaps one of a subgraph; without a checkpoint_id, now."""
    return answers.json(_selected(body, _read(thread_id, body["checkpoint"], subgraphs=bool(body.get("subgraphs")))))


@blueprint.route("/state", methods=["POST"])
@blueprint.body(StateUpdate)
@blueprint.response(200, Updated)
@needs("threads:write", "threads.update")
def update(body: Json, thread_id: str) -> Response:
    """Edit a thread's state, as if a node had written it; refused while a run is under way."""
    checkpoint = _named({**(body.get("checkpoint") or {}), "checkpoint_id": _checkpoint_id(body)})
    with _graph_of(thread_id) as graph:
        if graph is None:
            raise BadRequest(
                f"Thread {thread_id} has no associated graph yet: run an assistant on it before its state is edited."
            )
        left = _write(graph, thread_id, body, checkpoint)
        _note(graph, thread_id)
    at = {"thread_id": thread_id, "checkpoint_ns": "", **_named(left)}
    return answers.json({"checkpoint": at, "configurable": at, "checkpoint_id": at.get("checkpoint_id")})


@blueprint.route("/state", methods=["PATCH"])
@blueprint.body(StatePatch)
@blueprint.response(200, Thread)
@needs("threads:write", "threads.update")
def patch(body: Json, thread_id: str) -> Response:
    """Merge labels into the thread's, as PATCH /threads/{thread_id} does: an older way to say it."""
    return answers.json(of_thread(service().update_thread(thread_id, body.get("metadata") or {})))


@blueprint.route("/history", methods=["POST"])
@blueprint.body(HistoryRead, required=False)
@blueprint.response(200, ThreadState(many=True))
@needs("threads:read", "threads.read")
def history(body: Json, thread_id: str) -> Response:
    """A thread's states, newest first."""
    return answers.json([_selected(body, found) for found in _history(thread_id, body)])


@blueprint.route("/history")
@blueprint.query(HistoryQuery)
@blueprint.response(200, ThreadState(many=True))
@needs("threads:read", "threads.read")
def history_by_query(query: Json, thread_id: str) -> Response:
    """A thread's states, newest first."""
    return answers.json(_history(thread_id, query))


@contextlib.contextmanager
def _graph_of(thread_id: str) -> Iterator[Graph | None]:
    """The graph that runs or last ran on a thread, to read its state with; None before the first."""
    graph_id = _graph_id(service().get_thread(thread_id))
    if graph_id is None:
        yield None
        return
    with wired().catalog.open(graph_id, thread_id) as graph:
        yield graph


def _graph_id(thread: EngineThread) -> str | None:
    if thread.active:
        with contextlib.suppress(NotFound):  # it ended in the meantime, and was deleted
            run = service().get_run(thread.active)
            if run.entered or thread.graph_id is None:
                return run.graph_id
    if thread.graph_id is None and "graph_id" in thread.metadata:  # its client said so
        with contextlib.suppress(NotFound):
            return wired().catalog.find(str(thread.metadata["graph_id"])).graph_id
    return thread.graph_id


@contextlib.contextmanager
def seeding(body: Json) -> Iterator[Callable[[EngineThread], None]]:
    """What writes the supersteps of a ThreadCreate; opened before the thread is made, so that a graph is there."""
    if not (supersteps := body.get("supersteps")):
        yield lambda _: None
        return
    graph_id = (body.get("metadata") or {}).get("graph_id")
    if not isinstance(graph_id, str):
        raise BadRequest("supersteps: need metadata.graph_id, the graph they are written through.")
    with wired().catalog.open(wired().catalog.find(graph_id).graph_id) as graph:
        yield lambda thread: _seed(graph, thread, [step["updates"] for step in supersteps])


def _seed(graph: Graph, thread: EngineThread, supersteps: list[list[Json]]) -> None:
    """Write them on a new thread; one that was there before, and has a state, stays as it is."""
    if thread.graph_id is not None:
        return
    try:
        with _refusals("supersteps"):
            state.seed(graph, service().saver, service().keys, thread.thread_id, supersteps)
    except InvalidInput:
        service().delete_thread(thread.thread_id)
        raise
    _note(graph, thread.thread_id)


def _note(graph: Graph, thread_id: str) -> None:
    """Let the thread's record show the state that was written."""
    assistant = wired().catalog.find(str(_graph_id(service().get_thread(thread_id))))
    found = state.read(graph, service().saver, thread_id)
    service().note_state(thread_id, found, graph_id=assistant.graph_id, assistant_id=assistant.assistant_id)


def _read(thread_id: str, checkpoint: Json | None, *, subgraphs: bool) -> Json:
    wanted = _named(checkpoint)
    with _graph_of(thread_id) as graph:
        found = state.read(graph, service().saver, thread_id, wanted, subgraphs=subgraphs) if graph else EMPTY_STATE
    if wanted.get("checkpoint_id") and found["created_at"] is None:
        raise NotFound(f"Thread {thread_id} has no checkpoint {wanted['checkpoint_id']}.")
    return found


def _write(graph: Graph, thread_id: str, body: Json, checkpoint: Json) -> Json:
    engine, as_node = service(), body.get("as_node")
    with _refusals("values", BadRequest):
        return state.update(
            graph, engine.saver, engine.keys, thread_id, body.get("values"), as_node=as_node, checkpoint=checkpoint
        )


@contextlib.contextmanager
def _refusals(field: str, kind: type[InvalidInput] = InvalidInput) -> Iterator[None]:
    """The graph's own reducers and branches run here, and refuse what they cannot take in any way they like."""
    try:
        yield
    except InvalidInput as error:
        raise kind(str(error)) from error
    except EngineError:
        raise
    except Exception as error:
        raise kind(f"{field}: the graph does not take them: {type(error).__name__}: {error}") from error


def _selected(wanted: Json, found: Json) -> Json:
    """The fields a client selected, and of the values only the keys it selected."""
    names = [name for part in wanted.get("select") or () for name in part.split(",")]
    keys = [name.removeprefix("values.") for name in names if name.startswith("values.")]
    if not names:
        return found
    chosen = only(names, found) or {}
    if keys and "values" not in names and isinstance(found["values"], dict):
        chosen = {**chosen, "values": {key: found["values"][key] for key in keys if key in found["values"]}}
    return chosen


def _history(thread_id: str, wanted: Json) -> list[Json]:
    options: Json = {
        "limit": wanted.get("limit") or 10,
        "before": _before(wanted.get("before")),
        "metadata": wanted.get("metadata"),
        "checkpoint": _named(wanted.get("checkpoint")),
    }
    with _graph_of(thread_id) as graph:
        return list(state.history(graph, service().saver, thread_id, **options)) if graph else []


def _before(given: str | Json | None) -> Json | None:
    """A checkpoint from any of the forms that clients send: its id, the checkpoint, or a config around it."""
    if isinstance(given, dict):
        inner = given.get("configurable", given)
        if not isinstance(inner, dict) or not isinstance(inner.get("checkpoint_id"), str):
            raise InvalidInput("before: must name a checkpoint_id")
        return _named(inner)
    return {"checkpoint_id": given} if given else None


def _checkpoint_id(body: Json) -> Any:
    return body.get("checkpoint_id") or (body.get("checkpoint") or {}).get("checkpoint_id")


def _named(checkpoint: Json | None) -> Json:
    """The parts of a checkpoint that name it."""
    known = ("checkpoint_ns", "checkpoint_id", "checkpoint_map")
    return {key: value for key in known if (value := (checkpoint or {}).get(key)) is not None}
