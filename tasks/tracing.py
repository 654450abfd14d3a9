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

from runyard.engine import redact
from runyard.engine.errors import ConfigError
from runyard.engine.outcomes import branch_in_words, failure_in_words, in_words
from runyard.engine.record import About, ids_of
from runyard.engine.run import Advanced, Dispatched, Failed, Parked, Phase, RetryLater, Run, TimedOut
from runyard.engine.settings import Settings
from runyard.engine.store.crons import Cron
from runyard.engine.webhooks import Delivered, Verdict

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: What leaves a run with something to do.
_GOES_ON = (Advanced, Dispatched, RetryLater, Parked, type(None))
#: LangChain's names of providers, in the words of the semantic conventions, where those differ.
_PROVIDERS = {"azure": "azure.ai.openai", "amazon_bedrock": "aws.bedrock", "google_genai": "gcp.gemini",
              "google_vertexai": "gcp.vertex_ai", "mistral": "mistral_ai", "mistralai": "mistral_ai", "xai": "x_ai",
              "ibm": "ibm.watsonx.ai"}  # fmt: skip
#: Whose models go by these names, for models that say no more.
_MAKERS = {"gpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "claude": "anthropic",
           "gemini": "gcp.gemini", "mistral": "mistral_ai", "command": "cohere", "deepseek": "deepseek",
           "grok": "x_ai"}  # fmt: skip
#: What a model was asked with, by the names that records and conventions share.
_ASKED = ("temperature", "max_tokens", "top_p")
_TYPE = re.compile(r"[A-Za-z_][\w.]*(?=: |$)")


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
        return made, _traceparent(made)

    def answered(self, made: Any, header: str, name: str, began_ns: int, status: int, **said: Any) -> None:
        """The request that was given ``made`` has been answered."""
        said["http.response.status_code"] = status
        error = f"HTTP {status}" if status >= 500 else None
        said["error.type"] = str(status) if error else None
        self._send(name, made, self._remote(traceparent_of(header)), began_ns, time.time_ns(), said,
                   kind=self._trace.SpanKind.SERVER, error=error)  # fmt: skip

    # --- runs

    @contextmanager
    def slicing(self, run: Run, branch: str) -> Iterator[Callable[[Any], None]]:
        """A slice, or a branch, of a run; whoever has it says what it came to. Spans of nodes belong to it."""
        whole = self._whole(run)
        if not whole.trace_flags.sampled:
            with self._around(whole):
                yield lambda _: None
            return
        number = run.slices + 1
        kind = f"branch {branch}" if branch else "slice"
        if not branch and run.lost_slice == run.slices > 0:
            self._slice_lost(run, whole, run.lost_slice, run.lost_from, run.lost_worker)
        made = self._made_for(whole, run.run_id, kind, number, secrets.token_hex(8) if branch else "")
        began, came_to = time.time_ns(), list[Any]()
        try:
            with self._around(made):
                yield came_to.append
        finally:
            if came_to or branch:  # of a lost slice of the run itself whoever takes it up next tells
                self._slice_ended(run, branch, whole, made, began, came_to)

    def _slice_ended(self, run: Run, branch: str, whole: Any, made: Any, began_ns: int, came_to: list[Any]) -> None:
        number, outcome = run.slices + 1, came_to[0] if came_to else None
        before = [self._made_for(whole, run.run_id, "slice", number - 1, "")] if number > 1 else []
        error = failure_in_words(outcome) if came_to else "its lease was lost, or the store was away"
        words = branch_in_words if branch else in_words
        said = {**_of_run(run), "runyard.slice": number, "runyard.branch": branch or None,
                "runyard.outcome": (error or words(outcome)) if came_to else None,
                "error.type": _failed_with(outcome) if error else None}  # fmt: skip
        self._send(f"branch {branch} {run.graph_id}" if branch else f"slice {run.graph_id}", made, whole, began_ns,
                   time.time_ns(), said, links=before, kind=self._trace.SpanKind.CONSUMER, error=error)  # fmt: skip
        if came_to and not branch and not isinstance(outcome, _GOES_ON):
            self._run_ended(run, whole, error, _failed_with(outcome))

    def timed_out(self, run: Run, *_: Any) -> None:
        """A run was ended by recovery for its time, perhaps while a worker had it that does not answer."""
        whole = self._whole(run)
        if run.phase is Phase.LEASED:
            self._slice_lost(run, whole, run.slices + 1, run.updated_at, run.owner or "")
        self._run_ended(run, whole, failure_in_words(TimedOut()), "RunTimedOut")

    def cancelled(self, run: Run) -> None:
        """A run was cancelled while no worker had it."""
        self._run_ended(run, self._whole(run), None)

    def _slice_lost(self, run: Run, whole: Any, number: int, from_ms: int, worker: str) -> None:
        """A slice that was killed, or lost touch, told by another process: its nodes' spans are of it."""
        made = self._made_for(whole, run.run_id, "slice", number, "")
        before = [self._made_for(whole, run.run_id, "slice", number - 1, "")] if number > 1 else []
        said = {**_of_run(run), "runyard.slice": number, "runyard.worker": worker or None, "error.type": "worker_lost"}
        self._send(f"slice {run.graph_id}", made, whole, from_ms * 1_000_000, time.time_ns(), said, links=before,
                   kind=self._trace.SpanKind.CONSUMER, error="its worker died or lost touch")  # fmt: skip

    def _run_ended(self, run: Run, whole: Any, error: str | None, kind: str | None = None) -> None:
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": run.graph_id,
                 "gen_ai.provider.name": "langgraph", "gen_ai.conversation.id": run.thread_id,
                 "runyard.replays": run.replays, "error.type": kind if error else None}  # fmt: skip
        before = [self._made_for(whole, run.run_id, "run", run.replays - 1, "")] if run.replays else []
        self._send(f"invoke_agent {run.graph_id}", whole, self._remote(run.trace), run.created_at * 1_000_000,
                   time.time_ns(), {**_of_run(run), **agent}, links=before, error=error)  # fmt: skip

    def _whole(self, run: Run) -> Any:
        """The span of the run itself: its id follows from the run's, so that every worker knows it."""
        parent, trace_id = self._remote(run.trace), int(ids_of(run)["trace_id"], 16)
        sampled = self._is_sampled(parent, trace_id, "invoke_agent")
        return self._made(trace_id, _span_id(run.run_id, "run", run.replays, ""), sampled=sampled)

    # --- around runs

    @contextmanager
    def firing(self, cron: Cron) -> Iterator[str]:
        """A cron fires: the ``traceparent`` of the run that it starts."""
        trace_id = secrets.randbits(128) or 1
        made = self._made(trace_id, secrets.randbits(64) or 1,
                          sampled=self._is_sampled(None, trace_id, "cron"))  # fmt: skip
        began = time.time_ns()
        said = {"runyard.cron_id": cron.cron_id, "runyard.graph": cron.graph_id, "runyard.schedule": cron.schedule}
        error = None
        try:
            yield _traceparent(made)
        except Exception as raised:
            error = redact.text(f"{type(raised).__name__}: {raised}")
            raise
        finally:
            self._send(f"cron {cron.graph_id}", made, None, began, time.time_ns(), said,
                       kind=self._trace.SpanKind.PRODUCER, error=error)  # fmt: skip

    @contextmanager
    def delivering(self, run: Run, attempt: int) -> Iterator[tuple[str, Callable[[Verdict], None]]]:
        """A webhook's attempt: the ``traceparent`` for its receiver, and what is told how it went."""
        whole = self._whole(run)
        made = self._made(whole.trace_id, secrets.randbits(64) or 1, sampled=whole.trace_flags.sampled)
        began, came_to = time.time_ns(), list[Verdict]()
        try:
            yield _traceparent(made), came_to.append
        finally:
            said: dict[str, Any] = {**_of_run(run), "http.request.method": "POST", "runyard.attempt": attempt}
            error = None
            for verdict in came_to:
                said["http.response.status_code"] = verdict.status
                error = None if isinstance(verdict, Delivered) else verdict.problem
            self._send(f"webhook {run.graph_id}", made, whole, began, time.time_ns(), said,
                       kind=self._trace.SpanKind.CLIENT, error=error)  # fmt: skip

    # --- nodes

    @contextmanager
    def attempting(self, task: PregelExecutableTask) -> Iterator[None]:
        """An attempt of a node: what it calls, and spans of the author's own, belong to it."""
        around = self._trace.get_current_span().get_span_context()
        if not around.trace_flags.sampled:  # most are not, and the slice's context says so to whoever asks
            yield
            return
        made = self._made(around.trace_id, secrets.randbits(64) or 1, sampled=True)
        last = _attempt.get()
        before = last.made if last is not None and last.task_id == task.id else None
        _attempt.set(_Attempt(task.id, made, around, before))
        with self._around(made):
            yield

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
        failed = record.get("error") if record["status"] in ("error", "timeout", "lost") else None
        if failed:
            said["error.type"] = _type_of(str(failed), record["status"])
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
                args = record.get("args") or {}
                said |= {"gen_ai.operation.name": "chat", "gen_ai.request.model": tool,
                         "gen_ai.response.model": tool if record["status"] == "ok" else None,
                         "gen_ai.provider.name": _provider(args.get("provider"), str(tool)),
                         **{f"gen_ai.request.{name}": args.get(name) for name in _ASKED}}  # fmt: skip
                return f"chat {tool}", kinds.CLIENT, said
            case "tool":
                said |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool,
                         "gen_ai.tool.type": "function"}  # fmt: skip
                return f"execute_tool {tool}", kinds.INTERNAL, said
            case "decision":
                return f"decide {record.get('node')}", kinds.INTERNAL, said
        return f"node {record.get('node')}", kinds.INTERNAL, said

    # --- spans

    @contextmanager
    def _around(self, made: Any) -> Iterator[None]:
        """What is begun in the block belongs to this span."""
        token = self._context.attach(self._trace.set_span_in_context(self._trace.NonRecordingSpan(made)))
        try:
            yield
        finally:
            self._context.detach(token)

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


def _traceparent(made: Any) -> str:
    return f"00-{made.trace_id:032x}-{made.span_id:016x}-{int(made.trace_flags):02x}"


def _span_id(*parts: object) -> int:
    """A span's id, the same wherever it is worked out."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def _provider(said: object, model: str) -> str:
    """Who answers for a model, as the conventions want it said of every call."""
    if said:
        return _PROVIDERS.get(str(said), str(said))
    name = model.rpartition("/")[2]
    return next((maker for start, maker in _MAKERS.items() if name.startswith(start)), "_OTHER")


def _failed_with(outcome: Any) -> str | None:
    """The name of what a slice, a branch or a run has failed with."""
    match outcome:
        case Failed(error) | {"error": error}:
            return str(error.get("error"))
        case TimedOut():
            return "RunTimedOut"
    return "lease_lost" if outcome is None else None


def _type_of(error: str, status: str) -> str:
    """The exception's name, else what is to be said in its place."""
    found = _TYPE.match(error)
    return found[0] if found else {"lost": "worker_lost"}.get(status, "_OTHER")


def _of_run(run: Run) -> dict[str, Any]:
    return {"runyard.run_id": run.run_id, "runyard.thread_id": run.thread_id, "runyard.graph": run.graph_id}
