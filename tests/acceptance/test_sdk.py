"""LangGraph's own Python clients, unchanged, against real processes: the SDK, sync and async, and RemoteGraph."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.support.eventually import eventually
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(120)

DONE = {"steps": ["work"], "text": "a"}


@pytest.fixture
async def client(server_stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server_stack.url, api_key=None) as made:
        yield made


@pytest.fixture
def sync(server_stack: Stack) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=server_stack.url, api_key=None) as made:
        yield made


def new_thread(sync: SyncLangGraphClient) -> str:
    return str(sync.threads.create()["thread_id"])


def is_at(sync: SyncLangGraphClient, thread_id: str, *nodes: str) -> None:
    """Wait until these nodes of a thread are next, or under way."""
    eventually(lambda: sync.threads.get_state(thread_id)["next"] == list(nodes), timeout_s=30, what=f"at {nodes}")


def has(sync: SyncLangGraphClient, thread_id: str, run_id: str, *statuses: str) -> None:
    eventually(
        lambda: sync.runs.get(thread_id, run_id)["status"] in statuses, timeout_s=30, what=f"{run_id} is {statuses}"
    )


# --- the SDK: both faces


async def test_the_async_client_runs_waits_streams_and_joins(client: LangGraphClient) -> None:
    thread = await client.threads.create(metadata={"m": 1})
    run = await client.runs.create(thread["thread_id"], "plain", input={"text": "a"})
    assert await client.runs.join(thread["thread_id"], run["run_id"]) == DONE
    assert await client.runs.wait(None, "plain", input={"text": "a"}) == DONE
    parts = [part async for part in client.runs.stream(None, "plain", input={"text": "a"}, stream_mode="updates")]
    assert [part.event for part in parts] == ["metadata", "updates"]
    joined = client.runs.join_stream(thread["thread_id"], run["run_id"], last_event_id="-1")
    assert [part.event async for part in joined][:1] == ["metadata"]


async def test_many_async_streams_at_once(client: LangGraphClient) -> None:
    async def last() -> Any:
        return [part async for part in client.runs.stream(None, "plain", input={"text": "a"})][-1].data

    assert await asyncio.gather(*(last() for _ in range(20))) == [DONE] * 20


def test_the_sync_client_interrupts_and_resumes(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    asked: Any = sync.runs.wait(thread_id, "asking", input={"text": "a"})
    assert asked["__interrupt__"][0]["value"] == {"question": "go on?"}
    assert sync.threads.get(thread_id)["status"] == "interrupted"
    assert [each["thread_id"] for each in sync.threads.search(status="interrupted", ids=[thread_id])] == [thread_id]
    answered: Any = sync.runs.wait(thread_id, "asking", command={"resume": "yes"})
    assert (answered["answer"], sync.threads.get(thread_id)["status"]) == ("yes", "idle")


def test_a_failed_run_raises_in_the_client(sync: SyncLangGraphClient) -> None:
    with pytest.raises(Exception, match="kaboom"):
        sync.runs.wait(None, "failing", input={})


# --- threads


def test_a_thread_is_copied_pruned_and_seeded(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    sync.runs.wait(thread_id, "asking", input={"text": "a"})
    copied: Any = sync.threads.copy(thread_id)
    copy = sync.threads.get(copied["thread_id"])
    assert (copy["status"], bool(copy["interrupts"])) == ("interrupted", True)
    answered: Any = sync.runs.wait(copy["thread_id"], "asking", command={"resume": "yes"})
    assert answered["answer"] == "yes"
    assert sync.threads.get(thread_id)["status"] == "interrupted"
    assert sync.threads.prune([thread_id, copy["thread_id"]], strategy="keep_latest") == {"pruned_count": 2}
    assert len(sync.threads.get_history(thread_id)) == 1
    resumed: Any = sync.runs.wait(thread_id, "asking", command={"resume": "still"})
    assert resumed["answer"] == "still"
    steps = [
        {"updates": [{"values": {"text": "b"}, "as_node": "__input__"}]},
        {"updates": [{"values": {"text": "b"}, "as_node": "__start__"}]},
        {"updates": [{"values": {"steps": ["work"]}, "as_node": "work"}]},
    ]
    seeded = sync.threads.create(graph_id="asking", supersteps=steps, ttl=10)
    assert sync.threads.get_state(seeded["thread_id"])["next"] == ["ask"]
    asked: Any = sync.runs.wait(seeded["thread_id"], "asking", input=None)
    assert (asked["text"], asked["__interrupt__"][0]["value"]) == ("b", {"question": "go on?"})


# --- runs


def test_a_batch_runs(sync: SyncLangGraphClient) -> None:
    made = sync.runs.create_batch([{"assistant_id": "plain", "input": {"text": text}} for text in "ab"])
    assert [sync.runs.join(run["thread_id"], run["run_id"])["text"] for run in made] == ["a", "b"]


def test_the_thread_of_a_stateless_run_goes_with_its_end_unless_it_is_kept(sync: SyncLangGraphClient) -> None:
    gone = sync.runs.create(None, "plain", input={"text": "a"})
    kept = sync.runs.create(None, "plain", input={"text": "a"}, on_completion="keep")
    for run in (gone, kept):
        assert sync.runs.join(run["thread_id"], run["run_id"]) == DONE
    assert sync.threads.get(kept["thread_id"])["values"] == DONE
    with pytest.raises(NotFoundError):
        sync.threads.get(gone["thread_id"])


def test_runs_of_one_thread_are_carried_out_in_their_order(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    made = [sync.runs.create(thread_id, "plain", input={"text": str(n)})["run_id"] for n in range(6)]
    assert [sync.runs.join(thread_id, run_id)["text"] for run_id in made] == [str(n) for n in range(6)]
    assert len(sync.threads.get_state(thread_id)["values"]["steps"]) == 6


def test_a_busy_thread_refuses_a_run_that_would_not_share_it(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    sync.runs.create(thread_id, "waiting", input={"text": "20"})
    with pytest.raises(ConflictError):
        sync.runs.create(thread_id, "plain", input={}, multitask_strategy="reject")
    sync.runs.cancel_many(thread_id=thread_id, run_ids=[run["run_id"] for run in sync.runs.list(thread_id)])
    eventually(lambda: sync.threads.get(thread_id)["status"] != "busy", timeout_s=30)


def test_an_interrupting_run_leaves_the_work_of_the_one_before(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    old = sync.runs.create(thread_id, "waiting", input={"text": "20"})
    is_at(sync, thread_id, "wait")
    new = sync.runs.create(thread_id, "plain", input={"text": "b"}, multitask_strategy="interrupt")
    assert sync.runs.join(thread_id, new["run_id"]) == {"steps": ["work", "work"], "text": "b"}
    assert sync.runs.get(thread_id, old["run_id"])["status"] == "interrupted"
    assert sync.threads.get(thread_id)["status"] == "idle"


def test_a_run_that_rolls_back_undoes_the_one_before(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    sync.runs.wait(thread_id, "plain", input={"text": "first"})
    old = sync.runs.create(thread_id, "waiting", input={"text": "20"})
    is_at(sync, thread_id, "wait")
    new = sync.runs.create(thread_id, "plain", input={"text": "b"}, multitask_strategy="rollback")
    assert sync.runs.join(thread_id, new["run_id"]) == {"steps": ["work", "work"], "text": "b"}
    with pytest.raises(NotFoundError):
        sync.runs.get(thread_id, old["run_id"])
    assert all(state["values"].get("text") != "20" for state in sync.threads.get_history(thread_id, limit=50))
    assert sync.threads.get(thread_id)["status"] == "idle"


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_of_many_that_push_the_others_out_one_comes_through(
    client: LangGraphClient, sync: SyncLangGraphClient, strategy: Any
) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    asked = {"input": {"text": "1"}, "multitask_strategy": strategy}
    await asyncio.gather(*(client.runs.create(thread_id, "waiting", **asked) for _ in range(6)))

    def is_free() -> bool:
        return sync.threads.get(thread_id)["status"] != "busy"

    await asyncio.to_thread(partial(eventually, is_free, timeout_s=40))
    statuses = sorted(run["status"] for run in await client.runs.list(thread_id, limit=50))
    assert statuses == [*(["interrupted"] * 5 if strategy == "interrupt" else []), "success"]
    assert (await client.threads.get(thread_id))["status"] == "idle"


def test_a_rolled_back_run_leaves_an_interrupted_thread_idle_and_answerable(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    sync.runs.wait(thread_id, "asking", input={"text": "a"})
    run = sync.runs.create(thread_id, "waiting", input={"text": "20"})
    is_at(sync, thread_id, "wait")
    sync.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    assert sync.threads.get(thread_id)["status"] == "idle"
    answered: Any = sync.runs.wait(thread_id, "asking", command={"resume": "yes"})
    assert answered["answer"] == "yes"


def test_a_run_waits_for_its_time_and_makes_its_thread_busy(sync: SyncLangGraphClient) -> None:
    thread_id, begun = new_thread(sync), time.monotonic()
    run = sync.runs.create(thread_id, "plain", input={"text": "a"}, after_seconds=2)
    assert sync.runs.get(thread_id, run["run_id"])["status"] == "pending"
    assert sync.threads.get(thread_id)["status"] == "busy"
    assert sync.runs.join(thread_id, run["run_id"]) == DONE
    assert 2 <= time.monotonic() - begun < 10


def test_all_runs_are_cancelled_by_status(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    running, queued = (sync.runs.create(thread_id, "waiting", input={"text": "20"})["run_id"] for _ in range(2))
    has(sync, thread_id, running, "running")
    sync.runs.cancel_many(status="all")
    for run_id in (running, queued):
        has(sync, thread_id, run_id, "interrupted")
    with pytest.raises(NotFoundError):
        sync.runs.cancel_many(status="running")


def test_a_client_that_goes_takes_its_run_along(sync: SyncLangGraphClient, server_stack: Stack) -> None:
    thread_id = new_thread(sync)
    with get_sync_client(url=server_stack.url, api_key=None) as other:
        stream = other.runs.stream(thread_id, "waiting", input={"text": "20"}, on_disconnect="cancel")
        assert next(iter(stream)).event == "metadata"
    has(sync, thread_id, sync.runs.list(thread_id)[0]["run_id"], "interrupted")


def test_a_thread_is_made_on_the_way_when_that_is_asked_for(sync: SyncLangGraphClient) -> None:
    thread_id = str(uuid.uuid4())
    with pytest.raises(NotFoundError):
        sync.runs.create(thread_id, "plain", input={})
    assert sync.runs.wait(thread_id, "plain", input={"text": "a"}, if_not_exists="create") == DONE


def test_a_run_forks_from_the_past(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    sync.runs.wait(thread_id, "asking", input={"text": "a"})
    sync.runs.wait(thread_id, "asking", command={"resume": "one"})
    past = next(state for state in sync.threads.get_history(thread_id) if state["next"] == ["ask"])
    again: Any = sync.runs.wait(thread_id, "asking", checkpoint_id=past["checkpoint"]["checkpoint_id"])
    assert again["__interrupt__"][0]["value"] == {"question": "go on?"}
    resumed: Any = sync.runs.wait(thread_id, "asking", command={"resume": "two"})
    assert resumed["answer"] == "two"


def test_a_breakpoint_stops_before_or_after_every_node(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    stopped: Any = sync.runs.wait(thread_id, "waiting", input={"text": "0"}, interrupt_before="*")
    assert stopped == {"text": "0", "steps": []}
    assert sync.threads.get(thread_id)["status"] == "interrupted"
    assert sync.threads.get_state(thread_id)["next"] == ["work"]
    sync.runs.wait(thread_id, "waiting", input=None, interrupt_after="*")
    assert sync.threads.get_state(thread_id)["next"] == ["wait"]
    rest: Any = sync.runs.wait(thread_id, "waiting", input=None)
    assert (rest["steps"], sync.threads.get(thread_id)["status"]) == (["work", "wait"], "idle")


def test_a_command_updates_and_jumps(sync: SyncLangGraphClient) -> None:
    thread_id = new_thread(sync)
    sync.runs.wait(thread_id, "asking", input={"text": "a"})
    jumped: Any = sync.runs.wait(thread_id, "asking", command={"update": {"text": "new"}, "goto": "work"})
    assert (jumped["text"], jumped["steps"]) == ("new", ["work", "work"])


@pytest.mark.parametrize("how", [{"durability": "exit"}, {"checkpoint_during": False}])
@pytest.mark.filterwarnings("ignore:`checkpoint_during` is deprecated:DeprecationWarning")
def test_a_run_may_keep_its_last_checkpoint_only(sync: SyncLangGraphClient, how: Any) -> None:
    thread_id = new_thread(sync)
    sync.runs.wait(thread_id, "waiting", input={"text": "0"}, **how)
    assert len(sync.threads.get_history(thread_id)) == 1


# --- RemoteGraph


def test_a_remote_graph_is_invoked_streamed_and_drawn(sync: SyncLangGraphClient) -> None:
    graph = RemoteGraph("plain", sync_client=sync)
    assert graph.invoke({"text": "a"}) == DONE
    assert list(graph.stream({"text": "a"}, stream_mode="updates")) == [{"work": {"steps": ["work"]}}]
    assert set(graph.get_graph().nodes) == {"__start__", "work", "__end__"}


def test_a_remote_graph_asks_and_is_answered(sync: SyncLangGraphClient) -> None:
    graph = RemoteGraph("asking", sync_client=sync)
    config: Any = {"configurable": {"thread_id": new_thread(sync)}}
    asked = graph.invoke({"text": "a"}, config)
    state = graph.get_state(config)
    assert state.next == ("ask",)
    assert state.tasks[0].interrupts[0].value == {"question": "go on?"}
    graph.update_state(config, {"text": "b"})
    assert graph.get_state(config).values["text"] == "b"
    assert graph.invoke(Command(resume="yes"), config)["answer"] == "yes"
    assert [state.next for state in graph.get_state_history(config)][:1] == [()]
    assert asked is not None


async def test_a_remote_graph_works_from_a_loop(client: LangGraphClient) -> None:
    graph = RemoteGraph("asking", client=client)
    config: Any = {"configurable": {"thread_id": (await client.threads.create())["thread_id"]}}
    parts = [part async for part in graph.astream({"text": "a"}, config, stream_mode=["values", "updates"])]
    assert ["__interrupt__" in part[1] for part in parts if part[0] == "updates"] == [False, True]
    assert (await graph.aget_state(config)).next == ("ask",)
    assert (await graph.ainvoke(Command(resume="yes"), config))["answer"] == "yes"
