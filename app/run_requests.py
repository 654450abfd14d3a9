"""From a validated RunCreate to a run that is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runyard.app import assistants
from runyard.app.auth import identity
from runyard.app.errors import BadRequest
from runyard.app.ids import canonical
from runyard.app.wiring import Wiring
from runyard.engine.assistants import under
from runyard.engine.errors import InvalidInput
from runyard.engine.ids import new_thread_id
from runyard.engine.run import Run, RunRequest
from runyard.engine.store.assistants import Assistant

Json = dict[str, Any]

_NAMES_OF_CHECKPOINT = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


def start(wiring: Wiring, body: Json, thread_id: str | None = None) -> Run:
    """Record the run that ``body`` asks for, on a thread, or on a hidden one of its own when there is none.

    Everything is checked before anything is written. Raises AssistantNotFound, InvalidInput, GraphBroken, and what
    Service.create_run does.
    """
    assistant = wiring.catalog.find(body["assistant_id"])
    request = to_request(body, assistant)
    wiring.catalog.check_input(assistant.graph_id, request.input)
    check_webhook(wiring, request)
    kept = thread_id is None and body.get("on_completion") == "keep"
    return wiring.service.create_run(
        request,
        graph_id=assistant.graph_id,
        assistant_id=assistant.assistant_id,
        thread_id=new_thread_id() if kept else thread_id,
        metadata={**assistants.labels(wiring, assistant), **(body.get("metadata") or {})},
        strategy=body.get("multitask_strategy") or "enqueue",
        create_thread=kept or body.get("if_not_exists") == "create",
        after_s=body.get("after_seconds") or 0,
        priority=body.get("priority") or 0,
        user=identity.current().user,
    )


def start_all(wiring: Wiring, bodies: Sequence[Json]) -> list[Run]:
    """Record stateless runs; none when one of them is wrong. A crash, or the store's end, may leave some recorded."""
    for body in bodies:
        check(wiring, body)
    return [start(wiring, body) for body in bodies]


def check(wiring: Wiring, body: Json) -> None:
    """Raises what :func:`start` would raise over the request itself."""
    assistant = wiring.catalog.find(body["assistant_id"])
    request = to_request(body, assistant)
    wiring.catalog.check_input(assistant.graph_id, request.input)
    check_webhook(wiring, request)


def check_webhook(wiring: Wiring, request: RunRequest) -> None:
    """Raises InvalidInput for a webhook that may not be sent to."""
    if request.webhook:
        wiring.webhooks.check(request.webhook)


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
