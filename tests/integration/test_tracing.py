"""One trace from a request through everything that a run does, as an OTLP receiver gets it."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from runyard.app.factory import create_app
from runyard.engine.crons import Crons
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.errors import ConfigError
from runyard.engine.letter import Repair
from runyard.engine.record import ids_of
from runyard.engine.run import RunRequest
from runyard.engine.settings import Settings
from runyard.engine.store.crons import Cron
from runyard.tasks import tracing
from runyard.tasks.tracing import Tracing
from tests.support.engine import Engine, engine
from tests.support.receiver import Receiver, receiver
from tests.support.web import Web, write_project

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class State(TypedDict, total=False):
    out: Annotated[list[Any], operator.add]


class Got:
    """A receiver, and what sends to it."""

    def __init__(self, to: Receiver) -> None:
        self.to = to
        self.tracing: Tracing | None = tracing.begin(Settings.from_env({}, otel_endpoint=self.url), "test")

    @property
    def url(self) -> str:
        return self.to.url.removesuffix("/told")

    def spans(self) -> list[Any]:
        assert self.tracing is not None
        self.tracing.close()
        found = []
        for received in self.to.received:
            assert received.path == "/v1/traces"
            for group in ExportTraceServiceRequest.FromString(received.raw).resource_spans:
                found += [span for scope in group.scope_spans for span in scope.spans]
        return found

    def watch(self, made: Engine) -> Engine:
        assert self.tracing is not None
        made.worker.sinks = (self.tracing.record,)
        made.worker.attempting, made.worker.slicing = self.tracing.attempting, self.tracing.slicing
        return made


@pytest.fixture
def got() -> Iterator[Got]:
    with receiver() as to:
        made = Got(to)
        yield made
        if made.tracing is not None:
            made.tracing.close()


def said(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@tool
def look_up(text: str) -> str:
    """Look something up."""
    return text


def agent(fails: list[int]) -> Any:
    model = FakeListChatModel(responses=["yes"])

    async def search(_: State) -> State:
        look_up.invoke({"text": "a"})
        await model.ainvoke("hm?")
        if fails:
            fails.pop()
            raise ConnectionError("refused, token=planted-secret")
        return {"out": [1]}

    builder = StateGraph(State)
    retry = RetryPolicy(max_attempts=2, initial_interval=0.0, jitter=False)
    builder.add_node("plan", lambda _: {"out": []}).add_node("search", search, retry_policy=retry)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda _: [Send("search", {}), Send("search", {})], ["search"])
    builder.add_edge("search", END)
    return builder.compile()


async def test_a_run_is_one_trace_down_to_tools_and_models(redis_url: str, got: Got) -> None:
    async with engine(redis_url, {"research": agent([1])}, quantum_s=0.0) as made:
        run = made.service.create_run(
            made.start("research", {"out": []}).request, graph_id="research", assistant_id="a", trace=PARENT
        )
        made.wakes.popleft()  # the other run's
        await got.watch(made).drive()
        assert ids_of(made.service.get_run(run.run_id))["trace_id"] == TRACE
    spans = got.spans()
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    parent = {span.span_id: by_id.get(span.parent_span_id) for span in spans}
    (whole,) = [span for span in spans if span.name == "invoke_agent research"]
    assert whole.parent_span_id.hex() == "b7ad6b7169203331"
    slices = [span for span in spans if span.name == "slice research"]
    assert len(slices) > 1
    assert {parent[span.span_id].name for span in slices} == {"invoke_agent research"}
    assert [link.span_id for span in slices[1:] for link in span.links] == [span.span_id for span in slices[:-1]]
    attempts = [span for span in spans if span.name == "node search"]
    assert sorted(said(span)["runyard.attempt"] for span in attempts) == [1, 1, 2]
    assert {parent[span.span_id].name for span in attempts} == {"slice research"}
    (second,) = [span for span in attempts if said(span)["runyard.attempt"] == 2]
    (failed,) = [span for span in attempts if span.status.code == 2]
    assert [link.span_id for link in second.links] == [failed.span_id]
    assert failed.status.message == "ConnectionError: refused, token=[redacted]"
    for name, operation in (("execute_tool look_up", "execute_tool"), ("chat", "chat")):
        calls = [span for span in spans if span.name.startswith(name)]
        assert len(calls) == 3
        assert {parent[span.span_id].span_id for span in calls} == {span.span_id for span in attempts}
        assert {said(span)["gen_ai.operation.name"] for span in calls} == {operation}
    (decided,) = [span for span in spans if span.name.startswith("decide")]
    assert parent[decided.span_id].name == "node plan"


async def test_a_replay_is_of_the_same_trace_and_links_to_what_failed(redis_url: str, got: Got) -> None:
    async with engine(redis_url, {"research": agent([1, 1, 1, 1])}) as made:
        run = await got.watch(made).run("research", {"out": []})
        DeadLetters(made.service).replay(run.run_id, Repair())
        await made.drive()
        assert made.service.get_run(run.run_id).status == "success"
    spans = got.spans()
    assert {span.trace_id.hex() for span in spans} == {run.run_id.replace("-", "")}
    first, again = [span for span in spans if span.name == "invoke_agent research"]
    assert (first.status.code, again.status.code) == (2, 0)
    assert [link.span_id for link in again.links] == [first.span_id]


async def test_what_is_not_sampled_is_not_sent(redis_url: str, got: Got) -> None:
    async with engine(redis_url, {"research": agent([])}) as made:
        request = made.start("research", {"out": []}).request
        made.wakes.clear()
        made.service.create_run(request, graph_id="research", assistant_id="a", trace=PARENT[:-2] + "00")
        await got.watch(made).drive()
    assert got.spans() == []


def test_a_request_is_of_its_clients_trace_and_its_run_goes_on_with_it(
    redis_url: str, tmp_path: Path, got: Got, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard.app.factory.begin", lambda *_: got.tracing)
    settings = Settings.from_env({}, redis_url=redis_url, config=str(write_project(tmp_path)))
    client = create_app(settings, wake=lambda _: None).test_client()
    answer = client.post("/runs", json={"assistant_id": "plain"}, headers={"traceparent": PARENT})
    assert answer.status_code == 200
    (span,) = got.spans()
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST /runs", TRACE, "b7ad6b7169203331")
    assert said(span)["http.response.status_code"] == 200
    assert answer.headers["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    run = client.application.extensions["runyard"].shared_service.of("").get_run(answer.json["run_id"])
    assert run.trace == answer.headers["traceparent"]


def test_a_clients_trace_is_kept_and_answered_though_nothing_is_sent(redis_url: str, tmp_path: Path) -> None:
    web = Web(redis_url, tmp_path)
    made = web.call("POST", "/runs", {"assistant_id": "plain"}, headers={"traceparent": PARENT})
    assert made.headers["traceparent"] == PARENT
    service = web.app.extensions["runyard"].shared_service.of("")
    assert service.get_run(made.json["run_id"]).trace == PARENT
    wrong = web.call("POST", "/runs", {"assistant_id": "plain"}, headers={"traceparent": "00-0-0-00"})
    assert "traceparent" not in wrong.headers
    assert service.get_run(wrong.json["run_id"]).trace == ""


def test_nothing_is_made_without_an_endpoint_and_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing.begin(Settings.from_env({}), "test") is None
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT='http://h' needs the extra: pip install"):
        tracing.begin(Settings.from_env({}, otel_endpoint="http://h"), "test")


async def test_a_slice_that_was_killed_is_told_of_by_whoever_goes_on(redis_url: str, got: Got) -> None:
    reached = asyncio.Event()

    async def hangs_once(_: State) -> State:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        return {"out": ["done"]}

    builder = StateGraph(State)
    builder.add_node("a", hangs_once).add_edge(START, "a").add_edge("a", END)
    async with engine(redis_url, {"g": builder.compile()}) as made:
        run = got.watch(made).start("g", {"out": []})
        dying = asyncio.create_task(made.carry_out(made.wakes.popleft()))
        await reached.wait()
        made.sync_store.client.zadd(made.keys.of_run(run.run_id).leases, {run.run_id: 1})
        made.recovery.sweep()
        await made.drive()
        dying.cancel()
        await asyncio.wait([dying])
    spans = got.spans()
    killed, again = sorted((s for s in spans if s.name == "slice g"), key=lambda s: said(s)["runyard.slice"])
    assert (killed.status.message, said(killed)["error.type"]) == ("its worker died or lost touch", "worker_lost")
    assert said(killed)["runyard.worker"] == made.worker.worker_id
    assert [link.span_id for link in again.links] == [killed.span_id]
    assert killed.start_time_unix_nano < killed.end_time_unix_nano <= again.end_time_unix_nano
    assert len({span.span_id for span in spans}) == len(spans)


async def test_a_run_that_recovery_ends_has_a_span(redis_url: str, got: Got) -> None:
    async with engine(redis_url, {"g": agent([])}) as made:
        assert got.tracing is not None
        made.recovery._on_death = (got.tracing.timed_out,)
        run = made.start("g", {"out": []})
        at = made.keys.of_run(run.run_id)
        made.sync_store.client.hset(at.run(run.run_id), "deadline_at", 1)
        made.sync_store.client.zadd(at.deadlines, {run.run_id: 1})
        made.recovery.sweep()
        assert made.service.get_run(run.run_id).status == "timeout"
    (whole,) = got.spans()
    assert (whole.name, said(whole)["error.type"], whole.status.code) == ("invoke_agent g", "RunTimedOut", 2)


async def test_a_run_that_is_cancelled_while_it_waits_has_a_span(redis_url: str, got: Got) -> None:
    async with engine(redis_url, {"g": agent([])}) as made:
        assert got.tracing is not None
        made.service.on_cancelled = got.tracing.cancelled
        made.service.cancel_run(made.start("g", {"out": []}))
    (whole,) = got.spans()
    assert (whole.name, whole.status.code) == ("invoke_agent g", 0)


async def test_a_webhook_is_of_its_runs_trace_and_so_is_its_receiver(redis_url: str, got: Got) -> None:
    async with engine(redis_url, {"g": agent([])}, webhook_allow="127.0.0.1") as made:
        assert got.tracing is not None
        got.watch(made).worker.delivering = got.tracing.delivering
        with receiver() as hook:
            request = dataclasses.replace(made.start("g", {"out": []}).request, webhook=hook.url)
            made.wakes.clear()
            made.service.create_run(request, graph_id="g", assistant_id="a", trace=PARENT)
            await made.drive()
            (told,) = hook.received
    (span,) = [span for span in got.spans() if span.name == "webhook g"]
    assert span.trace_id.hex() == TRACE
    assert told.headers["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    assert said(span)["http.response.status_code"] == 200


async def test_a_cron_begins_the_trace_of_the_run_that_it_starts(redis_url: str, got: Got) -> None:
    async with engine(redis_url, {"g": agent([])}) as made:
        assert got.tracing is not None
        crons = Crons(got.watch(made).service, firing=got.tracing.firing)
        cron = crons.create(
            Cron(
                cron_id="", assistant_id="a", graph_id="g", own=True, thread_id=None, schedule="* * * * *",
                timezone=None, end_at=None, enabled=True, on_run_completed=None, request=RunRequest(input={"out": []}),
                strategy="enqueue", payload={}, metadata={},
            )
        )  # fmt: skip
        crons.sweep(cron.next_at or 0)
        await made.drive()
    spans = {span.name: span for span in got.spans()}
    assert spans["invoke_agent g"].parent_span_id == spans["cron g"].span_id
    assert spans["invoke_agent g"].trace_id == spans["cron g"].trace_id
    assert said(spans["cron g"])["runyard.cron_id"] == cron.cron_id


@pytest.mark.parametrize(
    ("args", "model", "provider"),
    [
        ({"provider": "azure"}, "gpt-5", "azure.ai.openai"),
        ({"provider": "groq"}, "llama", "groq"),
        ({}, "openai/gpt-5", "openai"),
        (None, "mine", "_OTHER"),
    ],
)
def test_a_model_call_is_told_as_the_conventions_want_it(got: Got, args: Any, model: str, provider: str) -> None:
    assert got.tracing is not None
    told = got.tracing._said(
        {"kind": "model", "status": "error", "tool": model, "args": {**args, "temperature": 0.5} if args else args}
    )[2]
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == (provider, model)
    assert told["gen_ai.request.temperature"] == (0.5 if args else None)
