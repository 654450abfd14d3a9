"""The assistants of the project as agents of the Agent2Agent protocol: a context is a thread, a task is a run on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from runyard.app.ids import canonical
from runyard.app.json_rpc import INVALID_PARAMS, RpcError
from runyard.app.run_requests import start
from runyard.app.version import VERSION
from runyard.app.wiring import Wiring
from runyard.engine import wire
from runyard.engine.errors import RunNotFound, ThreadNotFound
from runyard.engine.run import ACTIVE, Run
from runyard.engine.service import Service
from runyard.engine.shape import at
from runyard.engine.store.assistants import Assistant

Json = dict[str, Any]

#: Of A2A that is spoken here.
PROTOCOL_VERSION = "0.3.0"
TASK_NOT_FOUND, NOT_CANCELABLE, UNSUPPORTED = -32001, -32002, -32004

_MODES = ["application/json", "text/plain"]
_STATES = {"pending": "submitted", "running": "working", "success": "completed", "interrupted": "canceled"}
_ROLES = {"human": "user", "user": "user", "ai": "agent", "assistant": "agent", "AIMessageChunk": "agent"}


def card(assistant: Assistant, root: str) -> Json:
    """What an agent can do and where it is; ``root`` is the address of this server, without a slash at its end."""
    url = f"{root}/a2a/{assistant.assistant_id}"
    about = assistant.description or f"{assistant.name} assistant"
    skill = {"id": f"{assistant.assistant_id}-main", "name": assistant.name, "description": about}
    return {
        "protocolVersion": PROTOCOL_VERSION,
        "name": assistant.name,
        "description": about,
        "url": url,
        "preferredTransport": "JSONRPC",
        "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": PROTOCOL_VERSION}],
        "capabilities": {"streaming": True, "pushNotifications": False, "stateTransitionHistory": False},
        "defaultInputModes": _MODES,
        "defaultOutputModes": _MODES,
        "skills": [{**skill, "tags": ["assistant", "langgraph"], "examples": []}],
        "version": VERSION,
    }


def send(wiring: Wiring, assistant: Assistant, params: Json) -> tuple[Run, Json]:
    """The run that a message starts, and the message. Raises RpcError, and what starting a run does.

    A message to a task that waits for one is the answer to what its graph asks.
    """
    message = _message(params)
    _check_talks(wiring, assistant)
    content = _content(message["parts"])
    thread_id = _context(message)
    if message.get("taskId") is not None:
        task = find(wiring.service, message["taskId"], thread_id)
        if state_of(wiring.service, task) != "input-required":
            raise RpcError(UNSUPPORTED, "The task does not wait for a message.")
        said: Json = {"command": {"resume": content}}
        thread_id = task.thread_id
    else:
        said = {"input": {"messages": [{"role": "user", "content": content, "id": message["messageId"]}]}}
    modes = ["values", "messages-tuple"]
    body = {"assistant_id": assistant.assistant_id, "if_not_exists": "create", "stream_mode": modes, **said}
    return start(wiring, body, thread_id or str(uuid.uuid4())), message


def find(service: Service, task_id: Any, context_id: str | None = None) -> Run:
    """The run of a task. Raises RpcError."""
    thread_id, _, run_id = str(task_id).partition(":")
    try:
        if canonical(thread_id) and canonical(run_id) and context_id in (None, canonical(thread_id)):
            return service.get_run(run_id.lower(), thread_id.lower())
    except (RunNotFound, ThreadNotFound):
        pass
    raise RpcError(TASK_NOT_FOUND, f"Task not found: {str(task_id)[:100]}")


def state_of(service: Service, run: Run) -> str:
    """The state of a run's task, which waits for input while its thread does and no other run has come after it."""
    state = _STATES.get(run.status, "failed")
    if state == "completed" and service.get_thread(run.thread_id).status == "interrupted":
        newest = service.list_runs(run.thread_id, limit=1)
        return "input-required" if newest and newest[0].run_id == run.run_id else state
    return state


def stored(service: Service, run: Run, history_length: Any = None) -> Json:
    """A task as it stands."""
    if run.phase in ACTIVE:
        values = service.get_thread(run.thread_id).values
        told = task(run, state_of(service, run), wire.decode(values) if values else {})
    else:
        told = ended(run, wire.decode(next(filter(None, service.result(run)))))
        told["status"] |= {"state": state_of(service, run), "timestamp": at(run.updated_at)}
    if isinstance(history_length, int) and not isinstance(history_length, bool) and history_length >= 0:
        told["history"] = told["history"][max(0, len(told["history"]) - history_length) :]
    return told


def cancel(service: Service, run: Run) -> Json:
    """Raises RpcError for a task that is over."""
    if run.phase not in ACTIVE:
        raise RpcError(NOT_CANCELABLE, "Task is not cancelable in its current state")
    service.cancel_run(run)
    return {**stored(service, run), "status": {"state": "canceled", "timestamp": now()}}


def ended(run: Run, values: Any) -> Json:
    """A task whose run has told its result."""
    error = values.get("__error__") if isinstance(values, dict) else None
    if error:
        told = task(run, "failed", {})
        told["status"]["message"] = _says(run, f"{error.get('error')}: {error.get('message')}")
        return told
    asked = values.get("__interrupt__") if isinstance(values, dict) else None
    told = task(run, "input-required" if asked else "completed", values)
    if asked:
        told["status"]["message"] = _says(run, "\n".join(_text_of(each.get("value")) for each in asked))
    elif answer := next((each for each in reversed(told["history"]) if each["role"] == "agent"), None):
        told["artifacts"] = [artifact(answer["parts"])]
    return told


def task(run: Run, state: str, values: Any) -> Json:
    """A run as a task, with the messages of its thread."""
    found = values.get("messages") if isinstance(values, dict) else None
    return {
        "kind": "task",
        **_ids(run, "id"),
        "status": {"state": state, "timestamp": now()},
        "history": [told for each in found or () if (told := _told(run, each))],
    }


def artifact(parts: list[Json]) -> Json:
    return {"artifactId": str(uuid.uuid4()), "name": "Assistant Response", "parts": parts}


def update(run: Run, state: str, text: str | None = None, *, final: bool = False) -> Json:
    """What a stream tells of a task's state, with what the agent has said so far."""
    status: Json = {"state": state, "timestamp": now()}
    if text is not None:
        status["message"] = _says(run, text)
    return {**_ids(run), "kind": "status-update", "status": status, "final": final}


def artifact_update(run: Run, told: Json) -> Json:
    return {**_ids(run), "kind": "artifact-update", "artifact": told, "append": False, "lastChunk": True}


def received(run: Run, message: Json) -> Json:
    """The task that a message has just begun."""
    told = task(run, "submitted", {})
    told["history"] = [{**message, "kind": "message", **_ids(run)}]
    return told


def text_of(content: Any) -> str:
    """What a message of LangChain says, without what is not text."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "".join(each if isinstance(each, str) else str(each.get("text") or "") for each in blocks)


def now() -> str:
    return datetime.now(UTC).isoformat()


def _ids(run: Run, name: str = "taskId") -> Json:
    return {name: f"{run.thread_id}:{run.run_id}", "contextId": run.thread_id}


def _says(run: Run, text: str) -> Json:
    parts = [{"kind": "text", "text": text}]
    return {"kind": "message", "role": "agent", "parts": parts, "messageId": str(uuid.uuid4()), **_ids(run)}


def _told(run: Run, message: Json) -> Json | None:
    """A message of a thread; None for one that says nothing, as a model's that only calls tools."""
    role = _ROLES.get(str(message.get("type") or message.get("role")))
    if message.get("type") == "tool":
        facts = {key: message.get(key) for key in ("tool_call_id", "name", "status", "content")}
        role, parts = "agent", [{"kind": "data", "data": {"tool_results": [facts]}}]
    else:
        parts = [{"kind": "text", "text": said}] if (said := text_of(message.get("content"))) else []
    if role is None or not parts:
        return None
    named = str(message.get("id") or uuid.uuid4())
    return {"kind": "message", "role": role, "parts": parts, "messageId": named, **_ids(run)}


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else wire.encode(value).decode()


def _message(params: Json) -> Json:
    message = params.get("message")
    if not isinstance(message, dict):
        raise RpcError(INVALID_PARAMS, "message: must be a JSON object")
    if not isinstance(message.get("messageId"), str) or not message["messageId"]:
        raise RpcError(INVALID_PARAMS, "message.messageId: must be text")
    parts = message.get("parts")
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise RpcError(INVALID_PARAMS, "message.parts: must be a list of one or more parts")
    return message


def _context(message: Json) -> str | None:
    given = message.get("contextId")
    if given is not None and canonical(given) is None:
        raise RpcError(INVALID_PARAMS, f"message.contextId: must be a UUID, not {str(given)[:60]!r}")
    return canonical(given)


def _check_talks(wiring: Wiring, assistant: Assistant) -> None:
    with wiring.catalog.open(assistant.graph_id) as graph:
        if "messages" not in getattr(graph, "channels", {}):
            raise RpcError(INVALID_PARAMS, f"{assistant.name} cannot be talked to: its state has no messages.")


def _content(parts: Iterable[Json]) -> str | list[Json]:
    """Parts as the content of a message: a text where there is nothing else."""
    blocks = [_block(part) for part in parts]
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _block(part: Json) -> Json:
    kind = part.get("kind")
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "data":
        return {"type": "text", "text": wire.encode(part.get("data")).decode()}
    if kind == "file" and isinstance(file := part.get("file"), dict):
        source = {"url": file["uri"]} if file.get("uri") else {"base64": file.get("bytes")}
        return {"type": "file", **source, **({"mime_type": file["mimeType"]} if file.get("mimeType") else {})}
    raise RpcError(INVALID_PARAMS, "message.parts: each must be a text, a file or data")
