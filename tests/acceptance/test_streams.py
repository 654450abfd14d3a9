"""Streams of real runs, seen by LangGraph's own client: the thread-centric protocol, and what outlives a run.

And what is waited for by clients of other protocols, which speak of tools and agents.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from runyard.app.protocol import QUESTION_AGE_S
from tests.support.eventually import eventually
from tests.support.stack import Stack, parse_events, stack
from tests.support.web import GRAPHS, write_project

MORE = """
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer

class Talk(TypedDict, total=False):
    messages: Annotated[list, operator.add]

@tool
def double(number: int) -> int:
    "Twice the number."
    return 2 * number

async def talk(state):
    model = GenericFakeChatModel(messages=iter([AIMessage("hello to you")]))
    return {"messages": [await model.ainvoke("hi")]}

async def use(state):
    get_stream_writer()({"name": "progress", "payload": 1})
    await double.ainvoke({"name": "double", "args": {"number": 2}, "id": "call-1", "type": "tool_call"})
    return {}

def decide(state):
    return {"messages": [AIMessage(f"you said {interrupt('which one?')}")]}

deciding = StateGraph(Talk).add_node("decide", decide).add_edge(START, "decide").add_edge("decide", END).compile()
inner = StateGraph(Talk).add_node("talk", talk).add_edge(START, "talk").add_edge("talk", END).compile()
talking = (
    StateGraph(Talk).add_node("talk", talk).add_node("inner", inner).add_node("use", use)
    .add_edge(START, "talk").add_edge("talk", "inner").add_edge("inner", "use").add_edge("use", END).compile()
)
"""


def project(folder: Path) -> Path:
    file = write_project(folder)
    (folder / "more_graphs.py").write_text(GRAPHS + MORE)
    told = json.loads(file.read_text())
    told["graphs"] |= {name: f"./more_graphs.py:{name}" for name in ("talking", "deciding")}
    file.write_text(json.dumps(told))
    return file


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.stack.write_project", project)
        with stack(tmp_path_factory.mktemp("stack")) as (made, _):
            yield made


@pytest.fixture
async def client(server: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url, api_key=None) as made:
        yield made


def command(server: Stack, thread_id: str, method: str, **params: Any) -> Any:
    body = {"id": 1, "method": method, "params": params}
    answer = server.http.post(f"/threads/{thread_id}/commands", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def started(server: Stack, assistant_id: str, **params: Any) -> str:
    thread_id = str(uuid.uuid4())
    answer = command(server, thread_id, "run.start", assistant_id=assistant_id, input={"steps": []}, **params)
    assert answer["type"] == "success", answer
    return thread_id


def told(server: Stack, thread_id: str, channels: list[str], until: str = "completed", **body: Any) -> list[Any]:
    """The protocol's events of a thread, up to its root's lifecycle event ``until``."""
    found = []
    wanted = {"channels": channels, **body}
    with server.http.stream("POST", f"/threads/{thread_id}/stream/events", json=wanted) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                params = found[-1]["params"]
                ended = not params["namespace"] and params["data"].get("event") in (until, "failed")
                if found[-1]["method"] == "lifecycle" and ended:
                    break
    return found


ALL = ["values", "updates", "messages", "tools", "custom", "lifecycle", "input", "tasks", "checkpoints"]


def data_of(found: list[Any], method: str, namespace: tuple[str, ...] | None = None) -> list[Any]:
    return [
        event["params"]["data"] for event in found
        if event["method"] == method and (namespace is None or tuple(event["params"]["namespace"]) == namespace)
    ]  # fmt: skip


def test_numbers_grow_by_one_through_all_runs_of_a_thread(server: Stack) -> None:
    thread_id = started(server, "plain")
    first = told(server, thread_id, ALL)
    assert [event["seq"] for event in first] == list(range(1, len(first) + 1))
    command(server, thread_id, "run.start", assistant_id="plain", input={"steps": []})
    second = told(server, thread_id, ALL, since=first[-1]["seq"])
    assert second[0]["seq"] == first[-1]["seq"] + 1
    assert [event["seq"] for event in second] == list(range(second[0]["seq"], second[-1]["seq"] + 1))


def test_a_message_is_edited_by_a_fork_from_before_its_values(server: Stack) -> None:
    thread_id = started(server, "plain")
    found = told(server, thread_id, ["values", "checkpoints", "lifecycle"])
    methods = [event["method"] for event in found][1:-1]
    assert methods == ["checkpoints", "checkpoints", "values", "checkpoints", "values"][-len(methods) :]
    last, values = found[-3]["params"]["data"], found[-2]["params"]["data"]
    assert (set(last), values) == ({"id", "parent_id", "step", "source"}, {"steps": ["work"]})
    config = {"configurable": {"checkpoint_id": last["parent_id"]}}
    command(server, thread_id, "run.start", assistant_id="plain", input={"steps": ["again"]}, config=config)
    told(server, thread_id, ["lifecycle"], since=found[-1]["seq"])
    assert server.http.get(f"/threads/{thread_id}/state").json()["values"] == {"steps": ["again", "work"]}


def test_whoever_opens_a_subgraph_late_is_told_all_of_it(server: Stack) -> None:
    thread_id = str(uuid.uuid4())
    command(server, thread_id, "run.start", assistant_id="talking", input={"messages": []})
    told(server, thread_id, ["lifecycle"])
    command(server, thread_id, "run.start", assistant_id="plain", input={"steps": []})
    path, wanted = f"/threads/{thread_id}/stream/events", {"channels": ["lifecycle"], "namespaces": [["inner"]]}
    with server.http.stream("POST", path, json=wanted) as answer:
        events = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        assert [next(events)["params"]["data"]["event"] for _ in range(2)] == ["started", "completed"]


async def test_the_sdk_streams_values_and_awaits_the_output(client: LangGraphClient) -> None:
    async with client.threads.stream(assistant_id="plain") as thread:
        await thread.run.start(input={"steps": []})
        seen = [values async for values in thread.values]
        assert seen[-1] == {"steps": ["work"]}
        assert await thread.output == {"steps": ["work"]}


async def test_the_sdk_answers_an_interrupt_and_sees_the_run_through(client: LangGraphClient) -> None:
    async with client.threads.stream(assistant_id="asking") as thread:
        await thread.run.start(input={"steps": []})
        async for _ in thread.values:
            pass
        assert thread.interrupted
        assert thread.interrupts[0]["value"] == {"question": "go on?"}
        await thread.run.respond("yes")
        assert (await thread.output.with_timeout(20))["answer"] == "yes"


async def test_the_sdk_hears_why_a_run_failed(client: LangGraphClient) -> None:
    async with client.threads.stream(assistant_id="failing") as thread:
        await thread.run.start(input={"steps": []})
        with pytest.raises(RuntimeError, match="kaboom"):
            await thread.output.with_timeout(20)


async def test_the_sdk_streams_messages_by_content_block(client: LangGraphClient) -> None:
    async with client.threads.stream(assistant_id="talking") as thread:
        await thread.run.start(input={"messages": []})
        messages = [message async for message in thread.messages]
        assert [await message.text for message in messages] == ["hello to you"]


async def test_the_sdk_finds_subgraphs(client: LangGraphClient) -> None:
    async with client.threads.stream(assistant_id="talking") as thread:
        await thread.run.start(input={"messages": []})
        names = [child.graph_name async for child in thread.subgraphs]
    assert names == ["inner"]


def test_remote_graph_streams_events_and_resumes(server: Stack) -> None:
    graph = RemoteGraph("asking", url=server.url, api_key="none")
    config = {"configurable": {"thread_id": str(uuid.uuid4())}}
    with graph.stream_events({"steps": []}, config, version="v3") as run:
        # The end is told on another stream than the values and may overtake the last of them.
        assert list(run.values)[-1] in ({"steps": []}, {"steps": ["work"]})
    with graph.stream_events(Command(resume="yes"), config, version="v3") as run:
        assert run.output["answer"] == "yes"


def test_a_remote_graph_streams_its_subgraphs_and_tells_their_states(server: Stack) -> None:
    graph = RemoteGraph("talking", url=server.url, api_key="none")
    parts = list(graph.stream({"messages": []}, stream_mode="updates", subgraphs=True))
    inside = [list(update) for namespace, update in parts if namespace]
    assert inside == [["talk"]]
    assert [list(update) for namespace, update in parts if not namespace] == [["talk"], ["inner"], ["use"]]
    tokens = [part[0]["content"] for part in graph.stream({"messages": []}, stream_mode="messages")]
    # As plain LangGraph: the graph's own message by tokens, and that of the subgraph as the whole it came to.
    assert tokens == [*("hello", " ", "to", " ", "you"), "hello to you"]


def test_a_remote_graph_is_a_node_of_a_local_one_that_asks_through_it(server: Stack) -> None:
    thread_id = server.thread()

    class State(TypedDict, total=False):
        steps: list[str]
        answer: str

    remote = RemoteGraph("asking", url=server.url, api_key="none")
    builder = StateGraph(State).add_node("remote", remote).add_edge(START, "remote").add_edge("remote", END)
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": thread_id}}
    asked = graph.invoke({"steps": []}, config)
    assert [interrupt.value for interrupt in asked["__interrupt__"]] == [{"question": "go on?"}]
    # RemoteGraph goes as soon as it reads the question, before the end of the stream says that the run has ended.
    eventually(lambda: server.http.get(f"/threads/{thread_id}").json()["status"] == "interrupted", what="interrupted")
    assert remote.get_state(config).next == ("ask",)
    assert remote.invoke(Command(resume="yes"), config)["answer"] == "yes"
    past = list(remote.get_state_history(config, limit=10))
    assert past[0].next == ()
    assert remote.update_state(config, {"answer": "no"}, as_node="ask")["configurable"]["checkpoint_id"]
    assert remote.get_state(config).values["answer"] == "no"


def test_messages_come_as_blocks_tools_as_calls_and_custom_events_by_name(server: Stack) -> None:
    thread_id = str(uuid.uuid4())
    command(server, thread_id, "run.start", assistant_id="talking", input={"messages": []})
    found = told(server, thread_id, ["messages", "tools", "custom:progress", "lifecycle"])
    kinds = [data["event"] for data in data_of(found, "messages", ())]
    assert kinds[:2] == ["message-start", "content-block-start"]
    assert kinds[-2:] == ["content-block-finish", "message-finish"]
    assert kinds.count("content-block-delta") > 1
    assert [data["event"] for data in data_of(found, "tools")] == ["tool-started", "tool-finished"]
    assert data_of(found, "custom") == [{"name": "progress", "payload": 1}]
    assert [data["event"] for data in data_of(found, "lifecycle")] == ["running", "started", "completed", "completed"]


def test_what_the_graph_asks_comes_before_the_root_is_interrupted(server: Stack) -> None:
    found = told(server, started(server, "asking"), ["lifecycle", "input"], until="interrupted")
    assert [event["method"] for event in found] == ["lifecycle", "input.requested", "lifecycle"]
    assert found[1]["params"]["data"]["payload"] == {"question": "go on?"}


def test_who_listens_for_questions_alone_hears_them_after_what_was_told_before(server: Stack) -> None:
    [asked] = [event for event in told(server, started(server, "asking"), ["input", "lifecycle"], until="interrupted")
               if event["method"] == "input.requested"]  # fmt: skip
    assert time.time() - asked["params"]["timestamp"] / 1000 >= QUESTION_AGE_S


def test_namespaces_and_depth_choose_among_subgraphs(server: Stack) -> None:
    thread_id = str(uuid.uuid4())
    command(server, thread_id, "run.start", assistant_id="talking", input={"messages": []})
    at_root = told(server, thread_id, ["messages", "lifecycle"], namespaces=[[]], depth=0)
    assert all(event["params"]["namespace"] == [] for event in at_root)
    inside = told(server, thread_id, ["messages", "lifecycle"])
    assert {event["params"]["namespace"][0].partition(":")[0] for event in inside if event["params"]["namespace"]} == {
        "inner"
    }


def test_input_on_an_interrupted_thread_is_the_answer(server: Stack) -> None:
    thread_id = started(server, "asking")
    told(server, thread_id, ["lifecycle"], until="interrupted")
    command(server, thread_id, "run.start", assistant_id="asking", input="sure")
    told(server, thread_id, ["lifecycle"])
    assert server.http.get(f"/threads/{thread_id}/state").json()["values"]["answer"] == "sure"


def test_an_answer_may_be_nothing(server: Stack) -> None:
    thread_id = started(server, "asking")
    asked = told(server, thread_id, ["lifecycle", "input"], until="interrupted")[1]["params"]["data"]
    command(server, thread_id, "input.respond", responses=[{"interrupt_id": asked["interrupt_id"]}])
    told(server, thread_id, ["lifecycle"])
    state = server.http.get(f"/threads/{thread_id}/state").json()
    assert (state["values"]["answer"], state["next"]) == (None, [])


def test_a_thread_stream_outlives_its_runs_and_goes_on_after_an_event(server: Stack) -> None:
    thread_id = server.thread()
    path = f"/threads/{thread_id}/stream"
    for _ in range(2):
        server.status(server.run(thread_id, "plain", input={"steps": []}, stream_mode="updates"))
    found = _read(server, path, {"Last-Event-ID": "-1"}, blocks=6)
    assert [event["event"] for event in found] == ["metadata", "updates", "metadata"] * 2
    later = _read(server, path, {"Last-Event-ID": found[2]["id"]}, blocks=3)
    assert later == found[3:]
    only = _read(server, f"{path}?stream_mode=lifecycle", {"Last-Event-ID": "-1"}, blocks=4)
    assert {event["event"] for event in only} == {"metadata"}


def _read(server: Stack, path: str, headers: dict[str, str], *, blocks: int) -> list[dict[str, str]]:
    text = ""
    with server.http.stream("GET", path, headers=headers, timeout=httpx.Timeout(20)) as answer:
        for part in answer.iter_text():
            text += part
            if len(found := parse_events(text.rpartition("\n\n")[0])) >= blocks:
                return found[:blocks]
    raise AssertionError(text)


def test_events_are_the_records_of_astream_events(server: Stack) -> None:
    answer = server.post("/runs/stream", "plain", input={"steps": []}, stream_mode=["events", "values"])
    found = parse_events(answer.text)
    records = [json.loads(event["data"]) for event in found if event["event"] == "events"]
    assert {"on_chain_start", "on_chain_stream", "on_chain_end"} <= {record["event"] for record in records}
    run_id = json.loads(found[0]["data"])["run_id"]
    root = [record for record in records if record["run_id"] == run_id]
    assert [(record["event"], record["name"]) for record in root] == [
        ("on_chain_start", "plain"),
        ("on_chain_end", "plain"),
    ]
    assert json.loads([event for event in found if event["event"] == "values"][-1]["data"]) == {"steps": ["work"]}


def test_a_classic_reader_of_a_run_of_the_protocol_sees_what_it_knows(server: Stack) -> None:
    thread_id = str(uuid.uuid4())
    run_id = command(server, thread_id, "run.start", assistant_id="plain", input={"steps": []})["result"]["run_id"]
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    found = parse_events(server.http.get(path, headers={"Last-Event-ID": "-1"}).text)
    assert not [event for event in found if event["event"].startswith("v3/")]
    assert {"metadata", "values", "updates"} <= {event["event"] for event in found}


def rpc(server: Stack, path: str, method: str, **params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = server.http.post(path, json=body, headers={"Accept": "application/json, text/event-stream"})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"] if answer.headers["content-type"] == "application/json" else answer.text


def test_a_tool_of_mcp_answers_what_its_run_comes_to(server: Stack) -> None:
    told = rpc(server, "/mcp", "tools/call", name="plain", arguments={"steps": ["given"]})
    assert json.loads(told["content"][0]["text"]) == {"steps": ["given", "work"]}
    talked = rpc(server, "/mcp", "tools/call", name="deciding", arguments={"messages": "hello"})
    said = json.loads(talked["content"][0]["text"])
    assert said["messages"] == [{"role": "user", "content": "hello"}]
    assert said["__interrupt__"][0]["value"] == "which one?"
    failed = rpc(server, "/mcp", "tools/call", name="failing", arguments={})
    assert failed == {"isError": True, "content": [{"type": "text", "text": "ValueError: kaboom"}]}


def said_to(server: Stack, graph: str, method: str = "message/send", **more: Any) -> Any:
    message = {"role": "user", "messageId": str(uuid.uuid4()), "parts": [{"kind": "text", "text": "left"}], **more}
    return rpc(server, f"/a2a/{graph}", method, message=message)


def test_an_agent_of_a2a_asks_and_goes_on_with_the_answer(server: Stack) -> None:
    task = said_to(server, "deciding")
    assert (task["kind"], task["status"]["state"]) == ("task", "input-required")
    assert task["status"]["message"]["parts"] == [{"kind": "text", "text": "which one?"}]
    answered = said_to(server, "deciding", taskId=task["id"], contextId=task["contextId"])
    assert (answered["status"]["state"], answered["contextId"]) == ("completed", task["contextId"])
    assert answered["artifacts"][0]["parts"] == [{"kind": "text", "text": "you said left"}]
    assert [message["role"] for message in answered["history"]] == ["user", "agent"]
    old = rpc(server, "/a2a/deciding", "tasks/get", id=task["id"])
    assert (old["status"]["state"], [message["role"] for message in old["history"]]) == ("completed", ["user"])
    newest = rpc(server, "/a2a/deciding", "tasks/get", id=answered["id"], historyLength=1)
    assert [message["role"] for message in newest["history"]] == ["agent"]


def test_an_agent_of_a2a_streams_what_it_says(server: Stack) -> None:
    text = said_to(server, "talking", "message/stream")
    told = [json.loads(event["data"])["result"] for event in parse_events(text)]
    assert [each["kind"] for each in (told[0], *told[-2:])] == ["task", "artifact-update", "status-update"]
    assert (told[0]["status"]["state"], told[-1]["status"]["state"], told[-1]["final"]) == (
        "submitted",
        "completed",
        True,
    )
    working = [each["status"]["message"]["parts"][0]["text"] for each in told[1:-2]]
    assert working[0] == "hello"
    assert working[-1] == told[-2]["artifact"]["parts"][0]["text"] == "hello to you"


def test_a_failed_task_says_why(server: Stack) -> None:
    thread_id = server.thread()
    path = server.run(thread_id, "failing", input={"steps": []})
    server.status(path)
    task = rpc(server, "/a2a/failing", "tasks/get", id=f"{thread_id}:{path.rpartition('/')[2]}")
    assert task["status"]["state"] == "failed"
    assert task["status"]["message"]["parts"][0]["text"] == "ValueError: kaboom"


def test_a_run_of_the_agent_protocol_is_waited_for_by_its_id(server: Stack) -> None:
    run = server.http.post("/runs", json={"agent_id": "plain", "input": {"steps": []}}).json()
    assert server.http.get(f"/runs/{run['run_id']}/wait").json() == {"steps": ["work"]}
