"""What LangChain and LangGraph tell of the inside of nodes: tools, models, and the nodes of graphs in graphs.

Given to a run's graph as a callback that everything below inherits, in async and plain code, through parallel tools
and nested graphs. What does not go through LangChain, say a model's own client, is not seen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks.manager import handle_event
from langchain_core.outputs import LLMResult
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, Send

from runyard.engine import redact, seam
from runyard.engine.ledger import Ledger, counted, status_of
from runyard.engine.record import Kind, Status

Json = dict[str, Any]


@dataclass(slots=True)
class _Begun:
    kind: Kind
    name: str
    node: str
    task_id: str
    began_at: float
    began: float
    args: Any = None
    attempt: int | None = None


class Either:
    """A callback that waits: awaited by LangChain's asynchronous managers, blocking in the thread of a plain one.

    LangChain asks a handler for its method first, and then whether that is a coroutine function. One that is would be
    called by the plain ones in a loop of its own, and what it raises lost.
    """

    def __init__(self, plain: Callable[..., None], awaited: Callable[..., Awaitable[None]]) -> None:
        self._plain, self._awaited = plain, awaited

    def __get__(self, handler: Any, owner: Any = None) -> Callable[..., Any]:
        asked_by = sys._getframe(1).f_code  # noqa: SLF001 - nothing else tells the two apart
        chosen: Any = self._plain if asked_by is handle_event.__code__ else self._awaited
        return chosen.__get__(handler, owner)  # type: ignore[no-any-return]


class Callbacks(seam.InsideNodes):
    """Notes in ``ledger`` what happens inside nodes. Its methods are called in whatever thread it happens in."""

    #: On the event loop it is called at once; otherwise each call would be a turn of the thread pool.
    run_inline = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begun: dict[UUID, _Begun] = {}
        #: Nodes of nested graphs that are under way, by the callbacks' id; how often each of their tasks was tried.
        self._nested: dict[UUID, _Begun] = {}
        self._tries: dict[str, int] = {}

    # --- tools, and what retrieves documents

    def on_tool_start(
        self, serialized: Json | None, input_str: str, *, run_id: UUID, metadata: Json | None = None,
        inputs: Json | None = None, **more: Any,
    ) -> None:  # fmt: skip
        name = more.get("name") or (serialized or {}).get("name") or "tool"
        self._begin(run_id, Kind.TOOL, name, metadata, inputs if inputs is not None else {"input": input_str})

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        failed = getattr(output, "status", None) == "error"  # a tool that hands its own errors to the model
        error = redact.text(str(getattr(output, "content", output))) if failed else None
        self._end(run_id, Status.ERROR if failed else Status.OK, result_count=size(output), error=error)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._fail(run_id, error)

    def on_retriever_start(
        self, serialized: Json | None, query: str, *, run_id: UUID, metadata: Json | None = None, **more: Any
    ) -> None:
        name = more.get("name") or (serialized or {}).get("name") or "retriever"
        self._begin(run_id, Kind.TOOL, name, metadata, {"query": query})

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, Status.OK, result_count=size(documents))

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._fail(run_id, error)

    # --- models

    def on_chat_model_start(
        self, serialized: Json | None, messages: list[list[Any]], *, run_id: UUID, metadata: Json | None = None,
        **more: Any,
    ) -> None:  # fmt: skip
        args = _asked(more.get("invocation_params"))
        if provider := (metadata or {}).get("ls_provider"):
            args["provider"] = provider
        args["messages"] = sum(len(batch) for batch in messages)
        self._begin(run_id, Kind.MODEL, model_of(serialized, metadata, more), metadata, args)

    def on_llm_start(
        self, serialized: Json | None, prompts: list[str], *, run_id: UUID, metadata: Json | None = None, **more: Any
    ) -> None:
        args = _asked(more.get("invocation_params"))
        if provider := (metadata or {}).get("ls_provider"):
            args["provider"] = provider
        args["prompts"] = len(prompts)
        self._begin(run_id, Kind.MODEL, model_of(serialized, metadata, more), metadata, args)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        begun = self._begun.get(run_id)
        if begun is None:
            return
        model, tokens_in, tokens_out = usage(response, begun.name)
        begun.name = model
        call = self._ledger.called_model(begun.task_id, begun.node.partition("/")[0], model, tokens_in, tokens_out)
        used = {"in": tokens_in, "out": tokens_out, "by_model": {model: {"in": tokens_in, "out": tokens_out}}}
        count = sum(len(batch) for batch in response.generations)
        self._end(run_id, Status.OK, result_count=count, tokens_used=used, cost=call.cost)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._fail(run_id, error)

    # --- graphs in graphs

    def on_chain_start(
        self, serialized: Json | None, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None,  # noqa: ARG002
        tags: list[str] | None = None, metadata: Json | None = None, **more: Any,
    ) -> None:  # fmt: skip
        namespace = (metadata or {}).get("langgraph_checkpoint_ns")
        if not metadata or not namespace or "|" not in namespace or not tags:
            return
        is_node = any(tag.startswith("graph:step:") for tag in tags)
        if parent_run_id in self._nested and any(_is_after_body(tag) for tag in tags):
            self._begin(run_id, Kind.DECISION, str(more.get("name") or "router"), metadata, None)
        elif is_node and not str(metadata.get("langgraph_node")).startswith("__"):
            self._tries[namespace] = self._tries.get(namespace, 0) + 1
            self._begin(run_id, Kind.ATTEMPT, "", metadata, None)
            self._nested[run_id] = self._begun[run_id]
            self._begun[run_id].attempt = self._tries[namespace]

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        begun = self._begun.get(run_id)
        if begun is None:
            return
        if begun.kind is Kind.DECISION:
            chosen = destinations(outputs)
            self._end(run_id, Status.OK, decision=counted(chosen), result_count=len(chosen))
            return
        self._nested.pop(run_id, None)
        self._end(run_id, Status.OK, result_count=size(outputs), decision=_goto(outputs))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        if run_id in self._begun:
            self._nested.pop(run_id, None)
            self._fail(run_id, error)

    # --- how it is noted

    def _begin(self, run_id: UUID, kind: Kind, name: str, metadata: Json | None, args: Any) -> None:
        node, task_id = place(metadata)
        self._begun[run_id] = _Begun(kind, name, node, task_id, time.time(), time.monotonic(), args)

    def _fail(self, run_id: UUID, error: BaseException) -> None:
        status = status_of(error)
        told = None if isinstance(error, GraphBubbleUp) else redact.text(f"{type(error).__name__}: {error}")
        self._end(run_id, status, error=told)

    def _end(self, run_id: UUID, status: Status, **said: Any) -> None:
        begun = self._begun.pop(run_id, None)
        if begun is None:
            return
        took_ms = round((time.monotonic() - begun.began) * 1000, 2)
        step, attempt = self._ledger.step_and_attempt(begun.task_id)
        args = redact.plain(begun.args)
        if begun.kind is Kind.DECISION:
            args = {"router": begun.name}
        self._ledger.add(
            begun.kind, status, node=begun.node or None, step=step, attempt=begun.attempt or attempt,
            tool=begun.name if begun.kind in (Kind.TOOL, Kind.MODEL) else None, args=args or None, latency_ms=took_ms,
            timestamp=round(begun.began_at * 1000), **said,
        )  # fmt: skip
        self._ledger.flush_soon()


def place(metadata: Mapping[str, Any] | None) -> tuple[str, str]:
    """The nodes something happens in, ``outer/inner``, and the id of the outermost one's task; "" outside of any."""
    namespace = (metadata or {}).get("langgraph_checkpoint_ns")
    if not namespace:
        return "", ""
    parts = str(namespace).split("|")
    # LangGraph numbers graphs that one node calls twice; a number alone is not a node.
    nodes = "/".join(part.partition(":")[0] for part in parts if not part.isdigit())
    return nodes, parts[0].rpartition(":")[2]


def usage(response: LLMResult, asked: str) -> tuple[str, int, int]:
    """The model that answered (else the one that was ``asked``), tokens in, tokens out; 0 where nobody counted."""
    model, tokens_in, tokens_out = "", 0, 0
    for batch in response.generations:
        message: Any = getattr(batch[0], "message", None) if batch else None
        if counted_ := getattr(message, "usage_metadata", None):
            tokens_in += counted_.get("input_tokens") or 0
            tokens_out += counted_.get("output_tokens") or 0
        told: Json = getattr(message, "response_metadata", None) or {}
        model = model or str(told.get("model_name") or told.get("model") or "")
    llm = response.llm_output or {}
    if not tokens_in and not tokens_out and isinstance(counts := llm.get("token_usage") or llm.get("usage"), Mapping):
        tokens_in = counts.get("prompt_tokens") or counts.get("input_tokens") or 0
        tokens_out = counts.get("completion_tokens") or counts.get("output_tokens") or 0
    return redact.text(model or str(llm.get("model_name") or "") or asked, 100), tokens_in, tokens_out


def size(output: Any) -> int | None:
    """How many results something gave: of a list its length, of a mapping its keys, of anything else one."""
    if output is None:
        return 0
    if isinstance(output, Command):
        output = output.update or {}
    content = getattr(output, "artifact", None)
    found = content if isinstance(content, (list, tuple)) else output
    return len(found) if isinstance(found, (list, tuple, set, dict)) else 1


def destinations(chosen: Any) -> list[str]:
    """What a router has answered, as the names of nodes."""
    several = chosen if isinstance(chosen, (list, tuple)) else [chosen]
    names = [item.node if isinstance(item, Send) else str(item) for item in several]
    return ["END" if name == "__end__" else name for name in names] or ["END"]


def _goto(output: Any) -> str | None:
    commands = [item for item in (output if isinstance(output, list) else [output]) if isinstance(item, Command)]
    chosen = [name for command in commands if command.goto for name in destinations(command.goto)]
    return counted(chosen) if chosen else None


def _is_after_body(tag: str) -> bool:
    """Whether a step of a node comes after its body: only routers do, and are told of."""
    return tag.startswith("seq:step:") and tag != "seq:step:1"


def _asked(params: Mapping[str, Any] | None) -> Json:
    """What a model was asked with, but for the messages."""
    wanted = ("temperature", "max_tokens", "max_completion_tokens", "top_p", "tool_choice", "stop")
    asked = {name: params[name] for name in wanted if params and params.get(name) is not None}
    if params and (tools := params.get("tools")):
        asked["tools"] = len(tools)
    return asked


def model_of(serialized: Json | None, metadata: Json | None, more: Json) -> str:
    """The name of a model that is asked, as far as it is told."""
    params: Json = more.get("invocation_params") or {}
    named = (metadata or {}).get("ls_model_name") or params.get("model") or params.get("model_name")
    return redact.text(str(named or more.get("name") or (serialized or {}).get("name") or "model"), 100)
