"""From a validated RunCreate to a run that is recorded."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from flask import g, has_request_context, request as http

from runyard.app import assistants
from runyard.app.auth import identity
from runyard.app.auth.handlers import authorize_run
from runyard.app.body import check_sizes
from runyard.app.errors import BadRequest
from runyard.app.ids import canonical
from runyard.app.wiring import Wiring
from runyard.engine.assistants import under
from runyard.engine.errors import InvalidInput, ThreadNotFound
from runyard.engine.idempotency import Idempotency
from runyard.engine.run import Run, RunRequest
from runyard.engine.store.assistants import Assistant

Json = dict[str, Any]
#: What of a request goes into the run's record or its state as it is.
_SIZED = ("input", "command", "context", "config", "metadata")
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")

_NAMES_OF_CHECKPOINT = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


def start(
    wiring: Wiring,
    body: Json,
    thread_id: str | None = None,
    *,
    part: int | None = None,
    before: Callable[[Run], None] = lambda _: None,
) -> Run:
    """Record the run that ``body`` asks for, on a thread, or on a hidden one of its own when there is none.

    With the header Idempotency-Key it is the run that the same request has made before; ``part`` tells the runs of one
    request apart, and ``before`` is shown the run right before it is recorded. Everything is checked before anything is
    written. Raises AssistantNotFound, InvalidInput,
    GraphBroken, and what Service.create_run does.
    """
    once = _idempotency(body, thread_id, part)
    _check_sizes(wiring, body)
    assistant = wiring.catalog.find(body["assistant_id"])
    authorize_run(wiring, body, thread_id, assistant)
    request = with_context(wiring, assistant.graph_id, to_request(body, assistant))
    wiring.catalog.check_input(assistant.graph_id, request.input)
    check_webhook(wiring, request)
    kept = thread_id is None and body.get("on_completion") == "keep"
    if headers := wiring.options.headers.chosen(http.headers if has_request_context() else ()):
        request.config["configurable"] = {**(request.config.get("configurable") or {}), **headers}
    run = wiring.service.create_run(
        request,
        graph_id=assistant.graph_id,
        assistant_id=assistant.assistant_id,
        thread_id=wiring.service.fresh_thread_id(once) if kept else thread_id,
        metadata={
            **assistants.labels(wiring, assistant),
            **(request.config.get("metadata") or {}),
            **(body.get("metadata") or {}),
        },
        strategy=body.get("multitask_strategy") or "enqueue",
        create_thread=kept or body.get("if_not_exists") == "create",
        after_s=body.get("after_seconds") or 0,
        priority=body.get("priority") or 0,
        user=identity.current().user,
        idempotency=once,
        trace=g.get("trace", "") if has_request_context() else "",
        # a thread that is made for the run is looked for by that, and handlers filter by what they have put there
        thread_metadata=body.get("metadata"),
        before=before,
    )
    if wiring.options.thread_ttl and (kept or body.get("if_not_exists") == "create"):
        _give_time_to_live(wiring, run.thread_id)
    return run


def _give_time_to_live(wiring: Wiring, thread_id: str) -> None:
    """The project's, to a thread that was made for the run and has none of its own."""
    with suppress(ThreadNotFound):  # its client deleted it in the meantime
        if wiring.options.thread_ttl and wiring.service.get_thread(thread_id).ttl is None:
            wiring.service.set_ttl(thread_id, *wiring.options.thread_ttl)


def _idempotency(body: Json, thread_id: str | None, part: int | None) -> Idempotency | None:
    key = http.headers.get("Idempotency-Key") if has_request_context() else None
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInput("Idempotency-Key: must be 1 to 255 printable ASCII characters")
    key = key if part is None else f"{key}\0{part}"
    return Idempotency.of(key, body, tenant=identity.current().tenant, thread_id=thread_id or "")


def _check_sizes(wiring: Wiring, body: Json) -> None:
    if has_request_context():
        most = wiring.settings.max_input_bytes
        check_sizes(http, body, _SIZED, most=most, setting="RUNYARD_MAX_INPUT_BYTES")


def start_all(wiring: Wiring, bodies: Sequence[Json]) -> list[Run]:
    """Record stateless runs; none when one of them is wrong. A crash, or the store's end, may leave some recorded."""
    for body in bodies:
        check(wiring, body)
    return [start(wiring, body, part=number) for number, body in enumerate(bodies)]


def check(wiring: Wiring, body: Json) -> None:
    """Raises what :func:`start` would raise over the request itself."""
    assistant = wiring.catalog.find(body["assistant_id"])
    request = to_request(body, assistant)
    wiring.catalog.check_input(assistant.graph_id, request.input)
    check_webhook(wiring, request)


def check_webhook(wiring: Wiring, request: RunRequest) -> None:
    """Raises InvalidInput for a webhook that may not be sent to."""
    if not request.webhook:
        return
    may_wait = wiring.spare.acquire(blocking=False)  # name servers that do not answer must not take all threads
    try:
        wiring.webhooks.check(request.webhook, look_up=may_wait)
    finally:
        if may_wait:
            wiring.spare.release()


def to_request(body: Json, assistant: Assistant | None = None) -> RunRequest:
    """The engine's request, on top of what the assistant says. Raises BadRequest for a body that contradicts itself."""
    config = _without_nulls(body.get("config"))
    checkpoint = _checkpoint(body, config)
    context = body.get("context")
    if context and config.get("configurable"):
        raise BadRequest("context: give either context or config.configurable, not both; context is the newer one.")
    if assistant:
        config, context = under(assistant, config, context)
    if context:  # graphs that are older than `context` look for it there
        config["configurable"] = dict(context)
    return RunRequest(
        input=body.get("input"),
        command=_command(body.get("command")),
        config=config,
        context=context,
        checkpoint=checkpoint,
        interrupt_before=body.get("interrupt_before"),
        interrupt_after=body.get("interrupt_after"),
        stream_mode=_modes(body.get("stream_mode")),
        stream_subgraphs=body.get("stream_subgraphs") or False,
        stream_resumable=body.get("stream_resumable") or False,
        durability=_durability(body),
        webhook=body.get("webhook") or None,
        timeout_s=body.get("timeout_s"),
    )


def with_context(wiring: Wiring, graph_id: str, request: RunRequest) -> RunRequest:
    """``request`` whose ``context`` mirrors its ``configurable`` where it has none. Raises GraphBroken."""
    configurable = request.config.get("configurable")
    if request.context or not configurable:
        return request
    return dataclasses.replace(request, context=wiring.catalog.context_of(graph_id, configurable))


def _without_nulls(given: Json | None) -> Json:
    return {key: value for key, value in (given or {}).items() if value is not None}


def _command(given: Json | None) -> Json | None:
    """The command without what says nothing: RemoteGraph sends an empty ``goto`` along with a resume."""
    said = _without_nulls(given)
    if said.get("goto") == []:
        del said["goto"]
    return said or None


def _checkpoint(body: Json, config: Json) -> Json | None:
    """Where to go on from, named in any of three ways; what of it is in the ``config`` is taken out of there."""
    configurable = dict(config.get("configurable") or {})
    named = {key: configurable.pop(key) for key in _NAMES_OF_CHECKPOINT if key in configurable}
    if named:
        config["configurable"] = configurable
    wanted = {**_without_nulls(named), **_without_nulls(body.get("checkpoint"))}
    if body.get("checkpoint_id"):
        wanted["checkpoint_id"] = body["checkpoint_id"]
    if not wanted.get("checkpoint_id"):
        return None
    if canonical(wanted["checkpoint_id"]) is None:
        raise InvalidInput(f"checkpoint_id: must be a UUID, not {str(wanted['checkpoint_id'])[:60]!r}")
    return wanted


def _modes(given: str | list[str] | None) -> list[str]:
    asked = [given] if isinstance(given, str) else given
    return list(dict.fromkeys(asked or ["values"]))


def _durability(body: Json) -> str:
    if body.get("durability"):
        return str(body["durability"])
    return "exit" if body.get("checkpoint_during") is False else "async"
