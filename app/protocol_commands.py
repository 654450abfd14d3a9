"""The thread-centric protocol's commands: each answers a result, or raises what is wrong with its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError

from runyard.app.body import sentence
from runyard.app.errors import Forbidden
from runyard.app.run_requests import start
from runyard.app.schemas.runs import RunCreate
from runyard.app.wiring import Wiring
from runyard.engine.errors import AssistantNotFound, EngineError, InvalidInput, StoreUnavailable, ThreadNotFound
from runyard.engine.protocol import STREAM_MODE
from runyard.engine.run import Run
from runyard.engine.service import Service
from runyard.engine.store import events, runs
from runyard.engine.store.threads import Thread
from runyard.graphs.errors import UnknownGraph

Json = dict[str, Any]

#: An answer to an interrupt can come while its run is still being written down as ended.
SETTLE_S = 10.0
_RUN_CREATE = RunCreate()


class Refused(Exception):
    """A command that cannot be carried out, with the protocol's code for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def carry_out(wiring: Wiring, thread_id: str, command: Json) -> Json:
    """A command's answer, whatever it comes to. Raises StoreUnavailable only."""
    try:
        result = _dispatch(wiring, thread_id, command["method"], _params(command))
    except StoreUnavailable:
        raise
    except Refused as error:
        return _refusal(command, error.code, str(error))
    except Forbidden as error:
        return _refusal(command, "permission_denied", str(error))
    except (InvalidInput, AssistantNotFound, UnknownGraph) as error:
        return _refusal(command, "invalid_argument", str(error))
    except EngineError as error:
        return _refusal(command, "unknown_error", str(error))
    seq = wiring.service.store.do(events.last_seq(wiring.service.keys, thread_id))
    return {"type": "success", "id": command["id"], "result": result, "meta": {"applied_through_seq": seq}}


def no_command(given: Any, fault: str) -> Json:
    """The answer to what is no command: a refusal like any other, and ``detail`` as all errors have it."""
    named = given.get("id") if isinstance(given, dict) else None
    return {**_refusal({"id": named}, "invalid_argument", fault), "detail": fault}


def _refusal(command: Json, code: str, message: str) -> Json:
    return {"type": "error", "id": command["id"], "error": code, "message": message}


def _params(command: Json) -> Json:
    """A command's parameters; whatever else is given for them names none."""
    given = command.get("params")
    return given if isinstance(given, dict) else {}


def _dispatch(wiring: Wiring, thread_id: str, method: str, params: Json) -> Json:
    carry = _COMMANDS.get(method)
    if carry is None:
        raise Refused("unknown_command", f"There is no command {method[:60]!r}; there are {', '.join(_COMMANDS)}.")
    return carry(wiring, thread_id, params)


def _run_start(wiring: Wiring, thread_id: str, params: Json) -> Json:
    thread = _thread(wiring.service, thread_id)
    command = {key: params[key] for key in ("update", "goto") if params.get(key) is not None}
    given = params.get("input")
    if given is not None and thread is not None and thread.status == "interrupted" and thread.interrupts:
        command["resume"], given = given, None
    fork = params.get("forkFrom") or params.get("fork_from")
    body = {
        **{key: params.get(key) for key in ("assistant_id", "config", "metadata") if key in params},
        "multitask_strategy": params.get("multitaskStrategy") or params.get("multitask_strategy"),
        "checkpoint_id": fork.get("checkpoint_id") or fork.get("id") if isinstance(fork, dict) else fork,
        "command": command or None,
        "input": given,
    }
    return {"run_id": _start(wiring, thread_id, body).run_id}


def _input_respond(wiring: Wiring, thread_id: str, params: Json) -> Json:
    service = wiring.service
    _settle(service, thread_id)
    thread = _thread(service, thread_id)
    answers = _answers(params)
    if thread is None or not service.list_runs(thread_id, limit=1):
        raise Refused("no_such_run", "The thread has no run that could wait for an answer.")
    asked = {item["id"] for items in thread.interrupts.values() for item in items}
    if unknown := [interrupt_id for interrupt_id in answers if interrupt_id not in asked]:
        raise Refused("no_such_interrupt", f"The thread does not wait for an answer to {unknown[0][:60]!r}.")
    command = {"resume": answers, **{key: params[key] for key in ("update", "goto") if params.get(key) is not None}}
    body = {
        **{key: params[key] for key in ("config", "metadata") if key in params},
        "assistant_id": service.list_runs(thread_id, limit=1)[0].assistant_id,
        "command": command,
    }
    _start(wiring, thread_id, body)
    return {}


def _answers(params: Json) -> Json:
    """What is answered, by interrupt; JavaScript leaves out a response that is undefined, which stands for null."""
    given = params.get("responses", [params])
    if not isinstance(given, list) or not given or not all(_is_answer(item) for item in given):
        raise Refused("invalid_argument", "Give interrupt_id and response, or a list of these as responses.")
    return {item["interrupt_id"]: item.get("response") for item in given}


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("interrupt_id"), str)


def _get_tree(wiring: Wiring, thread_id: str, params: Json) -> Json:
    service = wiring.service
    thread = _thread(service, thread_id)
    found = service.list_runs(thread_id, limit=100) if thread else []
    wanted = params.get("run_id")
    run = next((run for run in found if wanted in (None, run.run_id)), None)
    if run is None or thread is None:
        raise Refused("no_such_run", "The thread has no such run.")
    status = {"success": "completed", "error": "failed", "timeout": "failed"}.get(run.status, run.status)
    if status == "completed" and run is found[0] and thread.status == "interrupted":
        status = "interrupted"
    return {
        "tree": {"namespace": [], "status": "started" if status == "pending" else status, "graph_name": run.graph_id}
    }


def _subscribe(wiring: Wiring, thread_id: str, params: Json) -> Json:  # noqa: ARG001
    if not isinstance(params.get("channels"), list) or not params["channels"]:
        raise Refused("invalid_argument", "channels: must be a list of one or more channels.")
    raise Refused("not_supported", f"Over HTTP a subscription is a stream: POST /threads/{thread_id}/stream/events.")


def _reconnect(wiring: Wiring, thread_id: str, params: Json) -> Json:  # noqa: ARG001
    raise Refused("not_supported", f"Over HTTP, open POST /threads/{thread_id}/stream/events again, with since.")


def _unsubscribe(wiring: Wiring, thread_id: str, params: Json) -> Json:  # noqa: ARG001
    if not isinstance(params.get("subscription_id"), str):
        raise Refused("invalid_argument", "subscription_id: must be text.")
    raise Refused("no_such_subscription", "Over HTTP a subscription ends when its stream is closed.")


_COMMANDS: dict[str, Callable[[Wiring, str, Json], Json]] = {
    "run.start": _run_start,
    "input.respond": _input_respond,
    "agent.getTree": _get_tree,
    "subscription.subscribe": _subscribe,
    "subscription.unsubscribe": _unsubscribe,
    "subscription.reconnect": _reconnect,
}


def _thread(service: Service, thread_id: str) -> Thread | None:
    try:
        return service.get_thread(thread_id)
    except ThreadNotFound:
        return None


def _settle(service: Service, thread_id: str) -> None:
    """Wait for the run whose question is being answered to be written down as ended."""
    [active], _ = [ids or [""] for ids in service.store.do_all(runs.unfinished(service.keys, thread_id))]
    if active:
        service.wait(service.get_run(active), timeout_s=SETTLE_S)


def _start(wiring: Wiring, thread_id: str, body: Json) -> Run:
    try:
        checked = _RUN_CREATE.load({key: value for key, value in body.items() if value is not None})
    except ValidationError as error:
        raise InvalidInput(sentence({"json": error.messages})) from None
    told = {"stream_mode": list(STREAM_MODE), "stream_subgraphs": True, "stream_resumable": True}
    return start(wiring, {**checked, **told, "if_not_exists": "create"}, thread_id)
