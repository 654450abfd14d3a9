"""What every client of LangGraph's server stands on, over real processes: the modes of streams, asking and answering,
cancelling and going on, and what nodes are told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from runyard.app.processes import WORKER
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.stack import Stack, parse_events, stack
from tests.support.web import GRAPHS, write_project

pytestmark = pytest.mark.timeout(120)

MORE = """
import json
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import MessagesState

async def speak(state):
    get_stream_writer()({"at": "speak"})
    model = GenericFakeChatModel(messages=iter([AIMessage("four words in all")]))
    return {"messages": [await model.ainvoke(state["messages"])]}

speaking = StateGraph(MessagesState).add_node("speak", speak).add_edge(START, "speak").add_edge("speak", END).compile()

class Asked(TypedDict, total=False):
    tone: str

def tell(state, config: RunnableConfig, runtime: Runtime[Asked]):
    known = {key: value for key, value in config["configurable"].items() if isinstance(value, str)}
    return {"answer": json.dumps({"context": runtime.context, "configurable": known})}

telling = StateGraph(State, Asked).add_node("tell", tell).add_edge(START, "tell").add_edge("tell", END).compile()
async def near(texts):
    return [[float(text.count("cat")), float(text.count("tea"))] for text in texts]

async def remember(state, runtime: Runtime):
    await runtime.store.aput(("notes",), "by-node", {"text": state["text"]})
    found = await runtime.store.asearch(("notes",), query="tea")
    return {"steps": [item.key for item in found]}

def recall(state, runtime: Runtime):
    return {"steps": [item.key for item in runtime.store.search(("notes",), query="cat", limit=1)]}

remembering = StateGraph(State).add_sequence([remember, recall]).add_edge(START, "remember").compile()
nesting = StateGraph(State).add_node("inside", plain).add_edge(START, "inside").add_edge("inside", END).compile()
"""


def project(folder: Path) -> Path:
    file = write_project(folder)
    (folder / "contract_graphs.py").write_text(GRAPHS + MORE)
    told = json.loads(file.read_text())
    told["graphs"] |= {
        name: f"./contract_graphs.py:{name}" for name in ("speaking", "telling", "nesting", "remembering")
    }
    told["store"] = {"index": {"dims": 2, "embed": "./contract_graphs.py:near", "fields": ["text"]}}
    file.write_text(json.dumps(told))
    return file


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.stack.write_project", project)
        with stack(tmp_path_factory.mktemp("stack")) as (made, _):
            yield made


@pytest.fixture
def client(server: Stack) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=server.url, api_key=None) as made:
        yield made


@pytest.fixture
def thread_id(client: SyncLangGraphClient) -> str:
    return str(client.threads.create()["thread_id"])


def parts_of(client: SyncLangGraphClient, thread_id: str, graph: str, given: Any, **how: Any) -> list[tuple[str, Any]]:
    return [(part.event, part.data) for part in client.runs.stream(thread_id, graph, input=given, **how)]


def named(parts: list[tuple[str, Any]], event: str) -> list[Any]:
    return [data for name, data in parts if name == event]


HUMAN = {"messages": [{"role": "user", "content": "go"}]}


# --- streams


def test_a_stream_is_one_of_events_and_shows_values_when_nothing_else_is_asked_for(server: Stack) -> None:
    answer = server.post(f"/threads/{server.thread()}/runs/stream", "plain", input={"text": "a"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert [event["event"] for event in parse_events(answer.text)] == ["metadata", "values", "values"]
    empty = server.post(f"/threads/{server.thread()}/runs/stream", "plain", input={"text": "a"}, stream_mode=[])
    assert [event["event"] for event in parse_events(empty.text)] == ["metadata", "values", "values"]


def test_every_turn_adds_to_the_thread_and_its_values_are_streamed_whole(
    client: SyncLangGraphClient, thread_id: str
) -> None:
    values = named(parts_of(client, thread_id, "speaking", HUMAN), "values")
    assert [len(each["messages"]) for each in values] == [1, 2]
    assert [message["type"] for message in values[-1]["messages"]] == ["human", "ai"]
    again: Any = client.runs.wait(thread_id, "speaking", input=HUMAN)
    assert [message["type"] for message in again["messages"]] == ["human", "ai"] * 2


def test_tokens_come_as_chunks_with_their_node(client: SyncLangGraphClient, thread_id: str) -> None:
    told = named(parts_of(client, thread_id, "speaking", HUMAN, stream_mode="messages-tuple"), "messages")
    chunks = [chunk for chunk, _ in told]
    assert len(chunks) > 3
    assert "".join(chunk["content"] for chunk in chunks) == "four words in all"
    assert chunks[0]["type"] == "AIMessageChunk"
    where = told[0][1]
    assert (where["langgraph_node"], where["thread_id"]) == ("speak", thread_id)


def test_messages_in_the_old_way_grow_in_place(client: SyncLangGraphClient, thread_id: str) -> None:
    parts = parts_of(client, thread_id, "speaking", HUMAN, stream_mode="messages")
    assert len(named(parts, "messages/metadata")) == 1
    partial = [message for [message] in named(parts, "messages/partial")]
    assert {message["type"] for message in partial} == {"ai"}
    grown = [message["content"] for message in partial]
    assert grown[-1] == "four words in all"
    assert all(later.startswith(earlier) for earlier, later in pairwise(grown))


def test_several_modes_share_a_stream(client: SyncLangGraphClient, thread_id: str) -> None:
    parts = parts_of(client, thread_id, "speaking", HUMAN, stream_mode=["values", "updates", "custom"])
    assert named(parts, "custom") == [{"at": "speak"}]
    assert [list(update) for update in named(parts, "updates")] == [["speak"]]
    assert {"metadata", "values"} <= {name for name, _ in parts}


def test_a_subgraphs_events_say_where_they_are_from(client: SyncLangGraphClient, thread_id: str) -> None:
    how: Any = {"stream_mode": "updates", "stream_subgraphs": True}
    [inner] = [name for name, _ in parts_of(client, thread_id, "nesting", {}, **how) if name.startswith("updates|")]
    place, _, task_id = inner.removeprefix("updates|").partition(":")
    assert place == "inside"
    assert uuid.UUID(task_id)


def test_a_failure_is_told_once_at_the_end_and_kept_with_its_task(client: SyncLangGraphClient, thread_id: str) -> None:
    parts = parts_of(client, thread_id, "failing", {}, stream_mode="updates")
    assert [name for name, _ in parts] == ["metadata", "updates", "error"]
    assert parts[-1][1] == {"error": "ValueError", "message": "kaboom"}
    [task] = client.threads.get_state(thread_id)["tasks"]
    assert (task["name"], task["error"]) == ("fail", "ValueError('kaboom')")
    with pytest.raises(Exception, match="kaboom"):
        client.runs.wait(thread_id, "failing", input={})


# --- asking


def test_a_question_is_in_every_mode_and_its_run_has_succeeded(client: SyncLangGraphClient, thread_id: str) -> None:
    parts = parts_of(client, thread_id, "asking", {}, stream_mode=["values", "updates"])
    for mode in ("values", "updates"):
        asked = [data["__interrupt__"][0]["value"] for data in named(parts, mode) if "__interrupt__" in data]
        assert asked == [{"question": "go on?"}], mode
    assert [run["status"] for run in client.runs.list(thread_id)] == ["success"]
    [task] = client.threads.get_state(thread_id)["tasks"]
    [[kept]] = client.threads.get(thread_id)["interrupts"].values()
    assert kept["id"] == task["interrupts"][0]["id"]


def test_a_question_is_answered_by_its_name(client: SyncLangGraphClient, thread_id: str) -> None:
    asked: Any = client.runs.wait(thread_id, "asking", input={})
    answer = {asked["__interrupt__"][0]["id"]: "by name"}
    assert client.runs.wait(thread_id, "asking", command={"resume": answer})["answer"] == "by name"  # type: ignore[call-overload]


# --- cancelling


def test_a_run_that_was_cancelled_leaves_its_thread_where_it_was_and_can_go_on(
    client: SyncLangGraphClient, server: Stack, thread_id: str
) -> None:
    path = server.run(thread_id, "waiting", input={"text": "1.5"})
    eventually(lambda: client.threads.get_state(thread_id)["next"] == ["wait"], what="the second node is under way")
    answer = server.http.post(f"{path}/cancel?wait=0&action=interrupt")
    assert (answer.status_code, answer.content) == (202, b"")
    assert server.status(path) == "interrupted"
    assert client.threads.get(thread_id)["status"] == "interrupted"
    assert client.runs.wait(thread_id, "waiting", input=None)["steps"] == ["work", "wait"]  # type: ignore[call-overload]
    assert client.threads.get(thread_id)["status"] == "idle"


# --- state


def test_a_history_goes_backwards_by_steps(client: SyncLangGraphClient, thread_id: str) -> None:
    client.runs.wait(thread_id, "plain", input={"text": "a"})
    history = client.threads.get_history(thread_id)
    assert [state["metadata"]["step"] for state in history] == [1, 0, -1]
    assert client.threads.get_history(thread_id, limit=1) == history[:1]
    newest = client.threads.get_state(thread_id)
    assert newest["checkpoint"] == history[0]["checkpoint"]
    assert set(newest["checkpoint"]) >= {"thread_id", "checkpoint_ns", "checkpoint_id"}
    assert newest["parent_checkpoint"] == history[1]["checkpoint"]
    metadata = client.threads.get(thread_id)["metadata"]
    assert (metadata["graph_id"], str(uuid.UUID(metadata["assistant_id"]))) == ("plain", metadata["assistant_id"])


# --- what nodes are told


def test_nodes_are_told_what_the_client_says_and_which_run_it_is(client: SyncLangGraphClient, thread_id: str) -> None:
    def told(**how: Any) -> Any:
        return json.loads(client.runs.wait(thread_id, "telling", input={}, **how)["answer"])  # type: ignore[call-overload]

    assert told(context={"tone": "dry"})["context"] == {"tone": "dry"}
    as_older_clients_say_it = told(config={"configurable": {"tone": "kind"}})
    assert as_older_clients_say_it["context"] == {"tone": "kind"}
    known = as_older_clients_say_it["configurable"]
    run = client.runs.list(thread_id)[0]
    assert known["tone"] == "kind"
    assert (known["thread_id"], known["run_id"], known["graph_id"]) == (thread_id, run["run_id"], "telling")
    assert known["assistant_id"] == run["assistant_id"]


def test_nodes_and_clients_find_each_others_items_by_what_they_mean(client: SyncLangGraphClient) -> None:
    client.store.put_item(["notes"], key="by-client", value={"text": "tea"})
    done: Any = client.runs.wait(None, "remembering", input={"text": "cat cat cat tea"})
    assert done["steps"] == ["by-client", "by-node", "by-node"]
    found = client.store.search_items(["notes"], query="cat")["items"]
    assert [(item["key"], round(item["score"] or 0, 3)) for item in found] == [("by-node", 0.949), ("by-client", 0.0)]


def test_a_worker_of_a_project_that_cannot_be_used_ends_and_names_what_is_wrong(tmp_path: Path) -> None:
    with EmbeddedServer() as store:
        wrong = Stack(store.url, tmp_path)
        told = json.loads((tmp_path / "langgraph.json").read_text())
        told["store"] = {"index": {"dims": 2, "embed": "./web_graphs.py:nothing"}}
        (tmp_path / "langgraph.json").write_text(json.dumps(told))
        assert "store.index.embed: './web_graphs.py:nothing' cannot be loaded" in _last_words(wrong)


def test_a_worker_that_is_to_keep_to_a_core_that_there_is_not_ends_and_says_so(tmp_path: Path) -> None:
    with EmbeddedServer() as store:
        wrong = Stack(store.url, tmp_path, RUNYARD_WORKER_CORE=4096)
        assert "RUNYARD_WORKER_CORE is not valid: 4096" in _last_words(wrong)


def _last_words(wrong: Stack) -> str:
    """What a worker said that cannot start."""
    try:
        wrong.start(WORKER)
        eventually(lambda: not wrong.members[0].is_running(), timeout_s=60, what="the worker has ended")
        assert "worker.cannot_start" in wrong.tails()
        return wrong.tails()
    finally:
        wrong.close()
