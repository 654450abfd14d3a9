"""Traces for OpenTelemetry: one for each run, through every slice, node, tool and model call of it.

Spans are made of what the ledger is told anyway, once it has ended, so a run that is traced costs no round trip more.
What a run is traced under is kept with it: workers on other machines, days later, go on with the same trace.
Nothing here imports OpenTelemetry before it is asked to: it is an extra (``runyard[otel]``).
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from langgraph.types import PregelExecutableTask

from runyard.engine.errors import ConfigError
from runyard.engine.ledger import About, ids_of
from runyard.engine.outcomes import branch_in_words, failure_in_words, in_words
from runyard.engine.run import Advanced, Dispatched, Parked, RetryLater, Run
from runyard.engine.settings import Settings

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: What leaves a run with something to do.
_GOES_ON = (Advanced, Dispatched, RetryLater, Parked, type(None))
#: Whose models go by these names, in the words of the semantic conventions.
_PROVIDERS = {"gpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "claude": "anthropic",
              "gemini": "gcp.gemini", "mistral": "mistral_ai", "command": "cohere", "deepseek": "deepseek",
              "grok": "x_ai"}  # fmt: skip


@dataclass(slots=True)
class _Attempt:
    """The span of an attempt: its own context, that of its slice, and that of the attempt before it."""

    task_id: str
    made: Any
    around: Any
    before: Any
    is_sent: bool = False


#: The attempt that this context is in, or was in last.
_attempt: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


def traceparent_of(header: str) -> str:
    """A W3C ``traceparent`` header as it is kept; "" for none, or one that is not valid."""
    return header if _TRACEPARENT.fullmatch(header) else ""


def begin(settings: Settings, service: str) -> Tracing | None:
    """What makes spans in this process; None when nobody is to be sent any. Raises ConfigError without the extra."""
    if not settings.otel_endpoint:
        return None
    try:
        return Tracing(settings.otel_endpoint, service)
    except ImportError as error:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT={settings.otel_endpoint!r} needs the extra: pip install 'runyard[otel]' "
            f"({error})"
        ) from error


class Tracing:
    """Makes spans and sends them, in a thread of its own, where OpenTelemetry's variables say. Any thread.

    A span is made whole when it has ended: the SDK's own are alive in one process, and a run is in many.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - an extra
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        self._trace, self._context, self._span = trace, context, ReadableSpan
        version = metadata.version("runyard")
        said = Resource.create()
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
        self._resource = said.merge(Resource({"service.version": version, **named}))
        self._scope = InstrumentationScope("runyard", version)
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler  # as OTEL_TRACES_SAMPLER says
        own = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        self._processor = BatchSpanProcessor(OTLPSpanExporter(own or f"{endpoint.rstrip('/')}/v1/traces"))
        atexit.register(self.close)

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()

    # --- requests

    def request(self, header: str, name: str) -> tuple[Any, str]:
        """A request begins: its span's context, and the same as a ``traceparent``."""
        parent = self._remote(traceparent_of(header))
        trace_id = parent.trace_id if parent else secrets.randbits(128) or 1
        made = self._made(trace_id, secrets.randbits(64) or 1, sampled=self._is_sampled(parent, trace_id, name))
        return made, f"00-{trace_id:032x}-{made.span_id:016x}-{int(made.trace_flags):02x}"

    def answered(self, made: Any, header: str, name: str, began_ns: int, status: int, **said: Any) -> None:
        """The request that was given ``made`` has been answered."""
        said["http.response.status_code"] = status
        error = f"HTTP {status}" if status >= 500 else None
        self._send(name, made, self._remote(traceparent_of(header)), began_ns, time.time_ns(), said,
                   kind=self._trace.SpanKind.SERVER, error=error)  # fmt: skip

    # --- runs

    @contextmanager
    def slicing(self, run: Run, branch: str) -> Iterator[Callable[[Any], None]]:
        """A slice, or a branch, of a run; whoever has it says what it came to. Spans of nodes belong to it."""
        whole = self._whole(run)
        number = run.slices + 1
        kind = f"branch {branch}" if branch else "slice"
        made = self._made_for(whole, run.run_id, kind, number, secrets.token_hex(8) if branch else "")
        began, said = time.time_ns(), _of_run(run)
        came_to: list[Any] = []
        token = self._context.attach(self._trace.set_span_in_context(self._trace.NonRecordingSpan(made)))
        try:
            yield came_to.append
        finally:
            self._context.detach(token)
            before = [self._made_for(whole, run.run_id, "slice", number - 1, "")] if number > 1 else []
            outcome = came_to[0] if came_to else None
            error = failure_in_words(outcome) if came_to else "its lease was lost, or the store was away"
            words = branch_in_words if branch else in_words
            result = {"runyard.outcome": error or words(outcome)} if came_to else {}
            self._send(f"{kind} {run.graph_id}", made, whole, began, time.time_ns(),
                       {**said, "runyard.slice": number, **result}, links=before,
                       kind=self._trace.SpanKind.CONSUMER, error=error)  # fmt: skip
            if came_to and not branch and not isinstance(outcome, _GOES_ON):
                self._run_ended(run, whole, error)

    def _run_ended(self, run: Run, whole: Any, error: str | None) -> None:
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": run.graph_id,
                 "gen_ai.conversation.id": run.thread_id, "runyard.replays": run.replays}  # fmt: skip
        before = [self._made_for(whole, run.run_id, "run", run.replays - 1, "")] if run.replays else []
        self._send(f"invoke_agent {run.graph_id}", whole, self._remote(run.trace), run.created_at * 1_000_000,
                   time.time_ns(), {**_of_run(run), **agent}, links=before, error=error)  # fmt: skip

    def _whole(self, run: Run) -> Any:
        """The span of the run itself: its id follows from the run's, so that every worker knows it."""
        parent, trace_id = self._remote(run.trace), int(ids_of(run)["trace_id"], 16)
        sampled = self._is_sampled(parent, trace_id, "invoke_agent")
        return self._made(trace_id, _span_id(run.run_id, "run", run.replays, ""), sampled=sampled)

    # --- nodes

    @contextmanager
    def attempting(self, task: PregelExecutableTask) -> Iterator[None]:
        """An attempt of a node: what it calls, and spans of the author's own, belong to it."""
        around = self._trace.get_current_span().get_span_context()
        made = self._made(around.trace_id, secrets.randbits(64) or 1, sampled=around.trace_flags.sampled)
        last = _attempt.get()
        before = last.made if last is not None and last.task_id == task.id else None
        _attempt.set(_Attempt(task.id, made, around, before))
        token = self._context.attach(self._trace.set_span_in_context(self._trace.NonRecordingSpan(made)))
        try:
            yield
        finally:
            self._context.detach(token)

    def record(self, about: About, record: Mapping[str, Any], _: bytes) -> None:
        """A record of the ledger as a span. Called in the context of what it is about."""
        around = self._trace.get_current_span().get_span_context()
        if not around.is_valid or not around.trace_flags.sampled:
            return
        made, parent, links = self._made(around.trace_id, secrets.randbits(64) or 1, sampled=True), around, []
        known = (
            None if "/" in str(record.get("node")) else _attempt.get()
        )  # of a graph in a graph it is the outer node's
        if known is not None and record["kind"] == "attempt" and record["status"] != "lost" and not known.is_sent:
            known.is_sent = True
            made, parent, links = known.made, known.around, [known.before] if known.before is not None else []
        elif known is not None and record["kind"] == "decision":
            parent = known.made
        began = int(record["timestamp"] * 1_000_000)
        name, kind, said = self._said(record)
        took = int((record.get("latency_ms") or 0) * 1_000_000)
        failed = record.get("error") if record["status"] in ("error", "timeout") else None
        self._send(name, made, parent, began, began + took,
                   {"runyard.run_id": about.run_id, "runyard.graph": about.graph, **said}, links=links, kind=kind,
                   error=failed)  # fmt: skip

    def _said(self, record: Mapping[str, Any]) -> tuple[str, Any, dict[str, Any]]:
        kinds = self._trace.SpanKind
        names = ("node", "step", "attempt", "status", "slice", "worker", "decision", "queue_ms", "cost")
        said = {f"runyard.{name}": record[name] for name in names if record.get(name) is not None}
        tool, used = record.get("tool"), record.get("tokens_used") or {}
        if used:
            said |= {"gen_ai.usage.input_tokens": used["in"], "gen_ai.usage.output_tokens": used["out"]}
        match record["kind"]:
            case "model":
                said |= {"gen_ai.operation.name": "chat", "gen_ai.response.model": tool, "gen_ai.request.model": tool}
                provider = next((v for k, v in _PROVIDERS.items() if str(tool).rpartition("/")[2].startswith(k)), None)
                return f"chat {tool}", kinds.CLIENT, {**said, "gen_ai.provider.name": provider}
            case "tool":
                said |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
                return f"execute_tool {tool}", kinds.INTERNAL, said
            case "decision":
                return f"decide {record.get('node')}", kinds.INTERNAL, said
        return f"node {record.get('node')}", kinds.INTERNAL, said

    # --- spans

    def _made(self, trace_id: int, span_id: int, *, sampled: bool) -> Any:
        return self._trace.SpanContext(trace_id, span_id, False, self._trace.TraceFlags(int(sampled)))

    def _made_for(self, whole: Any, *parts: object) -> Any:
        return self._made(whole.trace_id, _span_id(*parts), sampled=whole.trace_flags.sampled)

    def _remote(self, kept: str) -> Any:
        """The span that a ``traceparent`` names, None for ""."""
        if not kept:
            return None
        _, trace_id, span_id, flags = kept.split("-")
        return self._trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), True, self._trace.TraceFlags(int(flags, 16) & 1)
        )

    def _is_sampled(self, parent: Any, trace_id: int, name: str) -> bool:
        """As the sampler says of the parent, else of the trace: everywhere the same."""
        around = self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent)) if parent else None
        return bool(self._sampler.should_sample(around, trace_id, name).decision.is_sampled())

    def _send(
        self, name: str, made: Any, parent: Any, began_ns: int, ended_ns: int, said: Mapping[str, Any], *,
        links: Any = (), kind: Any = None, error: str | None = None,
    ) -> None:  # fmt: skip
        if not made.trace_flags.sampled:
            return
        trace = self._trace
        status = trace.Status(trace.StatusCode.ERROR, error) if error else trace.Status()
        self._processor.on_end(
            self._span(
                name, made, parent, self._resource, {key: value for key, value in said.items() if value is not None},
                (), [trace.Link(link) for link in links], kind or trace.SpanKind.INTERNAL, None, status,
                began_ns, ended_ns, self._scope,
            )
        )  # fmt: skip


def _span_id(*parts: object) -> int:
    """A span's id, the same wherever it is worked out."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def _of_run(run: Run) -> dict[str, Any]:
    return {"runyard.run_id": run.run_id, "runyard.thread_id": run.thread_id, "runyard.graph": run.graph_id}
