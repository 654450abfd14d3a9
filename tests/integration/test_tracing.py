"""One trace from a request through everything that a run does, as an OTLP receiver gets it."""

from __future__ import annotations

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
from runyard.engine.dead_letters import DeadLetters, Repair
from runyard.engine.errors import ConfigError
from runyard.engine.ledger import ids_of
from runyard.engine.settings import Settings
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
