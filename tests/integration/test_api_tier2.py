"""What LangGraph's server can do beyond the first steps, over HTTP, without workers."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runyard.engine.store import events, runs
from tests.support.engine import Engine, engine as make_engine
from tests.support.eventually import eventually
from tests.support.web import Web


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project")


@pytest.fixture
async def engine(web: Web) -> AsyncIterator[Engine]:
    """The same store, for a look behind the counter."""
    async with make_engine(web.settings.redis_url or "", {}) as made:
        yield made


STEPS = [
    {"updates": [{"values": {"text": "a"}, "as_node": "__input__"}]},
    {"updates": [{"values": {"text": "a"}, "as_node": "__start__"}]},
    {"updates": [{"values": {"steps": ["made up"]}, "command": None, "as_node": "work"}]},
]


def seeded(web: Web, **body: Any) -> Any:
    return web.call("POST", "/threads", {"metadata": {"graph_id": "plain", "k": 1}, "supersteps": STEPS, **body})


def status(web: Web, thread_id: str, run_id: str) -> Any:
    return web.call("GET", f"/threads/{thread_id}/runs/{run_id}").json.get("status")


# --- threads


def test_a_thread_begins_with_the_history_it_is_given(web: Web) -> None:
    thread = seeded(web).json
    assert thread["values"] == {"steps": ["made up"], "text": "a"}
    assert (thread["status"], thread["metadata"]["graph_id"]) == ("idle", "plain")
    state = web.call("GET", f"/threads/{thread['thread_id']}/state").json
    assert (state["values"], state["next"]) == (thread["values"], [])
    history = web.call("GET", f"/threads/{thread['thread_id']}/history?limit=1").json
    assert [each["checkpoint_id"] for each in history] == [state["checkpoint_id"]]
    older = web.call("GET", f"/threads/{thread['thread_id']}/history?before={state['checkpoint_id']}").json
    assert [each["next"] for each in older] == [["work"], ["__start__"]]


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"metadata": {}}, 400, "graph_id"),
        ({"metadata": {"graph_id": "nothing"}}, 404, "nothing"),
        ({"supersteps": [{"updates": [{"values": {"steps": 5}, "as_node": "nobody"}]}]}, 422, "supersteps"),
    ],
)
def test_a_history_that_cannot_be_written_leaves_no_thread(web: Web, body: Any, code: int, said: str) -> None:
    answer = seeded(web, **body)
    assert (answer.status_code, said in answer.json["detail"]) == (code, True)
    assert web.call("POST", "/threads/count", {}).json == 0


def test_a_history_is_not_written_twice(web: Web) -> None:
    first = seeded(web).json
    again = seeded(web, thread_id=first["thread_id"], if_exists="do_nothing").json
    assert again["values"] == first["values"]


def test_an_edited_state_shows_on_its_thread(web: Web) -> None:
    thread_id = web.thread(metadata={"graph_id": "plain"})
    left = web.call("POST", f"/threads/{thread_id}/state", {"values": {"text": "b"}, "as_node": "work"})
    assert left.status_code == 200
    assert web.call("GET", f"/threads/{thread_id}").json["values"]["text"] == "b"
    assert web.call("POST", "/threads/count", {"values": {"text": "b"}}).json == 1


def test_a_thread_that_is_given_a_state_with_something_left_to_do_waits(web: Web) -> None:
    half = seeded(web, supersteps=STEPS[:2]).json
    assert half["status"] == "interrupted"
    place = f"/threads/{half['thread_id']}"
    assert web.call("GET", f"{place}/state").json["next"] == ["work"]
    web.call("POST", f"{place}/state", {"values": {"steps": ["made up"]}, "as_node": "work"})
    assert web.call("GET", place).json["status"] == "idle"


def test_the_metadata_of_a_runs_config_is_the_runs(web: Web) -> None:
    run = web.run(web.thread(), config={"metadata": {"a": 1, "b": 1}}, metadata={"b": 2}).json
    assert (run["metadata"]["a"], run["metadata"]["b"]) == (1, 2)


def test_an_id_without_hyphens_is_the_same_id(web: Web) -> None:
    thread_id = web.thread()
    assert web.call("GET", f"/threads/{thread_id.replace('-', '')}").json["thread_id"] == thread_id
    assert web.call("POST", "/threads", {"thread_id": thread_id.replace("-", "")}).status_code == 409


def test_a_copy_has_the_state_and_the_history_and_a_life_of_its_own(web: Web) -> None:
    source = seeded(web).json
    copy = web.call("POST", f"/threads/{source['thread_id']}/copy").json
    assert copy["thread_id"] != source["thread_id"]
    same = ("metadata", "values", "interrupts", "status")
    assert [copy[name] for name in same] == [source[name] for name in same]
    histories = [web.call("POST", f"/threads/{each['thread_id']}/history", {}).json for each in (source, copy)]
    assert [state["values"] for state in histories[0]] == [state["values"] for state in histories[1]]
    web.call("DELETE", f"/threads/{source['thread_id']}")
    assert web.call("GET", f"/threads/{copy['thread_id']}/state").json["values"] == source["values"]
    assert web.call("POST", f"/threads/{source['thread_id']}/copy").status_code == 404


def test_pruned_threads_are_gone_or_lose_their_history(web: Web) -> None:
    first, second = (seeded(web).json["thread_id"] for _ in range(2))
    wanted = {"thread_ids": [first, second.upper(), str(uuid.uuid4())], "strategy": "keep_latest"}
    assert web.call("POST", "/threads/prune", wanted).json == {"pruned_count": 2}
    assert len(web.call("POST", f"/threads/{first}/history", {}).json) == 1
    assert web.call("GET", f"/threads/{first}/state").json["values"]["steps"] == ["made up"]
    assert web.call("POST", "/threads/prune", {"thread_ids": [first]}).json == {"pruned_count": 1}
    assert web.call("GET", f"/threads/{first}").status_code == 404
    assert web.call("POST", "/threads/prune", {"thread_ids": ["x"]}).status_code == 422


def test_the_history_of_a_busy_thread_is_not_pruned(web: Web) -> None:
    thread_id = seeded(web).json["thread_id"]
    web.run(thread_id)
    wanted = {"thread_ids": [thread_id], "strategy": "keep_latest"}
    assert web.call("POST", "/threads/prune", wanted).json == {"pruned_count": 0}


def test_a_search_takes_ids_and_answers_parts_of_what_it_finds(web: Web) -> None:
    first, second = (seeded(web).json["thread_id"] for _ in range(2))
    paths = {"last": "values.steps[-1]", "k": "metadata.k", "none": "values.nothing.here", "far": "values.steps[7]"}
    asked = {"ids": [second.upper(), first], "select": ["thread_id"], "sort_by": "created_at", "sort_order": "asc"}
    found = web.call("POST", "/threads/search", {**asked, "extract": paths}).json
    assert found[0] == {"thread_id": first, "extracted": {"last": "made up", "k": 1, "none": None, "far": None}}
    assert len(found) == 2
    for wrong in ({"extract": {"a": "secret.x"}}, {"extract": {"a": "values..x"}}, {"ids": ["x"]}):
        assert web.call("POST", "/threads/search", wrong).status_code == 422


def test_an_order_may_be_said_in_one_text_as_aegras_clients_do(web: Web) -> None:
    ids = [web.thread(thread_id=str(uuid.UUID(int=number))) for number in (2, 1, 3)]

    def found(**order: Any) -> list[str]:
        return [each["thread_id"] for each in web.call("POST", "/threads/search", order).json]

    assert found(order_by="thread_id ASC") == sorted(ids)
    assert found(order_by="thread_id desc") == sorted(ids, reverse=True)
    assert found(order_by="thread_id ASC", sort_by="thread_id") == sorted(ids, reverse=True)
    for nonsense in ("nothing", "secret ASC", "thread_id; DROP", "", 5):
        assert set(found(order_by=nonsense)) == set(ids)


def test_a_state_is_answered_in_parts(web: Web) -> None:
    thread_id = seeded(web).json["thread_id"]
    part = web.call("GET", f"/threads/{thread_id}/state?select=next&select=values.text").json
    assert part == {"next": [], "values": {"text": "a"}}
    wanted = {"checkpoint": {"thread_id": thread_id}, "select": ["values"]}
    assert set(web.call("POST", f"/threads/{thread_id}/state/checkpoint", wanted).json) == {"values"}
    assert web.call("POST", f"/threads/{thread_id}/history", {"select": ["next"], "limit": 1}).json == [{"next": []}]


# --- time to live


def age(engine: Engine, thread_id: str, minutes: float) -> None:
    """Make a thread that much older."""
    at = engine.keys.of_thread(thread_id)
    store = engine.sync_store.client
    for field in ("updated_at", "ttl_from"):
        store.hincrby(at.thread(thread_id), field, -round(minutes * 60_000))
    store.zincrby(at.ttl, -minutes * 60_000, thread_id)


def test_a_thread_goes_when_its_time_is_over(web: Web, engine: Engine) -> None:
    old, young, other = (web.thread(ttl=ttl) for ttl in (10, {"ttl": 90}, None))
    told = web.call("GET", f"/threads/{old}?include=ttl").json["ttl"]
    assert (told["ttl_minutes"], told["strategy"]) == (10, "delete")
    assert web.call("GET", f"/threads/{other}?include=ttl").json["ttl"] is None
    for thread_id in (old, young):
        age(engine, thread_id, 60)
    engine.recovery.sweep()
    codes = [web.call("GET", f"/threads/{thread_id}").status_code for thread_id in (old, young, other)]
    assert codes == [404, 200, 200]
    assert not engine.sync_store.client.keys(f"*{old}*")


def test_a_busy_thread_is_let_live_and_an_idle_one_may_lose_its_history_only(web: Web, engine: Engine) -> None:
    busy, kept = web.thread(ttl=1), seeded(web).json["thread_id"]
    changed = web.call("PATCH", f"/threads/{kept}", {"ttl": {"ttl": 1, "strategy": "keep_latest"}})
    assert changed.status_code == 200
    web.run(busy)
    for thread_id in (busy, kept):
        age(engine, thread_id, 5)
    engine.recovery.sweep()
    assert web.call("GET", f"/threads/{busy}").status_code == 200
    assert len(web.call("POST", f"/threads/{kept}/history", {}).json) == 1


@pytest.mark.parametrize("ttl", [0, -1, "5", True, {"strategy": "delete"}, {"ttl": 1, "strategy": "x"}, [1]])
def test_a_time_to_live_that_makes_no_sense_is_refused(web: Web, ttl: Any) -> None:
    assert web.call("POST", "/threads", {"ttl": ttl}).status_code == 422


# --- runs


def test_a_batch_is_recorded_whole_or_not_at_all(web: Web) -> None:
    made = web.call("POST", "/runs/batch", [{"assistant_id": "plain", "input": {"text": t}} for t in "ab"])
    assert [run["kwargs"]["input"]["text"] for run in made.json] == ["a", "b"]
    wrong = web.call("POST", "/runs/batch", [{"assistant_id": "plain"}, {"assistant_id": "nothing"}])
    assert (wrong.status_code, len(web.wakes)) == (404, 2)
    assert web.call("POST", "/runs/batch", {"assistant_id": "plain"}).status_code == 422
    assert web.call("POST", "/runs/batch", [{"input": {}}]).status_code == 422


def test_named_runs_of_a_thread_are_cancelled_together(web: Web) -> None:
    thread_id, elsewhere = web.thread(), web.thread()
    first, second, third = (web.run(thread_id).json["run_id"] for _ in range(3))
    foreign = web.run(elsewhere).json["run_id"]
    wanted = {"thread_id": thread_id, "run_ids": [first, third, foreign, str(uuid.uuid4())]}
    assert web.call("POST", "/runs/cancel", wanted).status_code == 204
    assert [status(web, thread_id, each) for each in (first, second, third)] == [
        "interrupted",
        "pending",
        "interrupted",
    ]
    assert status(web, elsewhere, foreign) == "pending"
    assert web.call("POST", "/runs/cancel", wanted).status_code == 404


def test_all_runs_of_a_status_are_cancelled_wherever_they_wait(web: Web) -> None:
    made = []
    for delay in (None, 60):
        thread_id = web.thread()
        made += [(thread_id, web.run(thread_id, after_seconds=delay).json["run_id"]) for _ in range(2)]
    assert web.call("POST", "/runs/cancel", {"status": "running"}).status_code == 404
    assert web.call("POST", "/runs/cancel?action=rollback", {"status": "pending"}).status_code == 204
    assert [web.call("GET", f"/threads/{t}/runs/{r}").status_code for t, r in made] == [404] * 4
    assert {web.call("GET", f"/threads/{t}").json["status"] for t, _ in made} == {"idle"}
    both = {"status": "all", "thread_id": made[0][0], "run_ids": ["a"]}
    for wrong in ({}, {"thread_id": made[0][0]}, {"status": "done"}, both):
        assert web.call("POST", "/runs/cancel", wrong).status_code == 422


def test_a_newer_run_interrupts_all_that_wait_even_for_their_time(web: Web) -> None:
    thread_id = web.thread()
    old = [web.run(thread_id, after_seconds=delay).json["run_id"] for delay in (None, None, 60)]
    new = web.run(thread_id, multitask_strategy="interrupt").json["run_id"]
    assert [status(web, thread_id, each) for each in old] == ["interrupted"] * 3
    assert [wake.run_id for wake in web.wakes][-1] == new


def test_a_newer_run_rolls_back_all_that_wait(web: Web) -> None:
    thread_id = web.thread()
    old = [web.run(thread_id).json["run_id"] for _ in range(2)]
    web.run(thread_id, multitask_strategy="rollback")
    assert [web.call("GET", f"/threads/{thread_id}/runs/{each}").status_code for each in old] == [404, 404]


def test_a_run_that_may_not_share_its_thread_is_refused_while_another_waits_for_its_time(web: Web) -> None:
    thread_id = web.thread()
    web.run(thread_id, after_seconds=60)
    assert web.call("GET", f"/threads/{thread_id}").json["status"] == "busy"
    assert web.run(thread_id, multitask_strategy="reject").status_code == 409


def test_feedback_keys_are_no_reason_to_refuse_a_run(web: Web) -> None:
    assert web.run(web.thread(), feedback_keys=["score"]).status_code == 200


def test_the_thread_of_an_ended_stateless_run_is_gone_but_its_run_can_be_asked_for(web: Web) -> None:
    run = web.call("POST", "/runs", {"assistant_id": "plain"}).json
    place = f"/threads/{run['thread_id']}"
    assert web.call("GET", place).status_code == 200
    web.call("POST", f"{place}/runs/{run['run_id']}/cancel")
    assert web.call("GET", place).status_code == 404
    assert web.run(run["thread_id"]).status_code == 404
    assert web.run(run["thread_id"], if_not_exists="create").status_code == 404
    assert web.call("GET", f"/runs/{run['run_id']}").json["status"] == "interrupted"


def test_a_join_long_after_the_end_answers_at_once(web: Web, engine: Engine) -> None:
    thread_id = seeded(web).json["thread_id"]
    run_id = web.run(thread_id).json["run_id"]
    run = engine.service.get_run(run_id)
    engine.sync_store.do(runs.cancel(engine.keys, run, "interrupt", events_ttl_ms=60_000))
    engine.sync_store.client.delete(engine.keys.of_run(run_id).events(run_id))
    assert engine.sync_store.do(events.last(engine.keys, run_id)) is None
    begun = time.monotonic()
    assert web.call("GET", f"/threads/{thread_id}/runs/{run_id}/join").json == {"steps": ["made up"], "text": "a"}
    assert time.monotonic() - begun < 1


def test_who_joins_a_run_that_was_cancelled_while_it_waited_hears_what_the_thread_holds(web: Web) -> None:
    thread_id = seeded(web).json["thread_id"]
    holds = {"steps": ["made up"], "text": "a"}
    for how in ({}, {"after_seconds": 60}):
        place = f"/threads/{thread_id}/runs/{web.run(thread_id, **how).json['run_id']}"
        assert web.call("POST", f"{place}/cancel?wait=1").json == {}
        assert web.call("GET", f"{place}/join").json == holds
        assert web.call("GET", f"/runs/{place.rpartition('/')[2]}/join").json == holds


def test_who_waits_for_a_run_from_its_start_hears_nothing_when_it_is_cancelled(web: Web, engine: Engine) -> None:
    thread_id = seeded(web).json["thread_id"]
    body = {"assistant_id": "plain", "metadata": {"mine": True}}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(web.call, "POST", f"/threads/{thread_id}/runs/wait", body)
        run = eventually(lambda: next(iter(engine.service.list_runs(thread_id)), None))
        engine.service.cancel_run(run)
        assert waiting.result(timeout=20).json == {}


def test_a_thread_says_what_it_takes(web: Web) -> None:
    told = web.call("GET", f"/threads/{seeded(web).json['thread_id']}/storage").json
    shares = [told[kind]["bytes"] for kind in ("checkpoints", "channel_values", "pending_writes")]
    assert (told["total_bytes"], told["checkpoints"]["count"]) == (sum(shares), 3)
    steps = told["channel_values"]["by_channel"]["steps"]
    assert steps["versions"] > 0
    assert 0 < steps["bytes"] <= told["channel_values"]["bytes"]
    assert web.call("GET", f"/threads/{uuid.uuid4()}/storage").status_code == 404


# --- what runs and threads say of each other


def test_a_run_carries_the_labels_of_its_thread_and_its_own_come_first(web: Web) -> None:
    thread_id = web.thread(metadata={"owner": "ann", "step": 1, "graph_id": "mine"})
    path = f"/threads/{thread_id}/runs"
    run = web.call("POST", path, {"assistant_id": "plain", "metadata": {"step": 2}}).json
    labels = {"owner": "ann", "step": 2, "graph_id": "plain", "assistant_id": run["assistant_id"]}
    assert run["metadata"] == labels
    assert web.call("GET", f"{path}/{run['run_id']}").json["metadata"] == labels
    web.call("PATCH", f"/threads/{thread_id}", {"metadata": {"owner": "bob"}})
    assert web.call("GET", f"{path}/{run['run_id']}").json["metadata"] == labels


def test_a_run_that_is_sent_twice_has_the_labels_both_times(web: Web) -> None:
    path, body = f"/threads/{web.thread(metadata={'owner': 'ann'})}/runs", {"assistant_id": "plain"}
    first, again = (web.call("POST", path, body, headers={"Idempotency-Key": "k"}).json for _ in range(2))
    assert (first["run_id"], first["metadata"]) == (again["run_id"], again["metadata"])
    assert again["metadata"]["owner"] == "ann"


def test_a_thread_shows_its_graph_and_config_as_soon_as_it_has_a_run(web: Web) -> None:
    thread_id = web.thread()
    config = {"tags": ["t"], "recursion_limit": 7, "configurable": {"key": "secret"}}
    run = web.call("POST", f"/threads/{thread_id}/runs", {"assistant_id": "plain", "config": config}).json
    thread = web.call("GET", f"/threads/{thread_id}").json
    assert thread["metadata"] == {"graph_id": "plain", "assistant_id": run["assistant_id"]}
    assert thread["config"] == {"tags": ["t"], "recursion_limit": 7, "configurable": {}}
    found = web.call("POST", "/threads/search", {"metadata": {"graph_id": "plain"}}).json
    assert [each["thread_id"] for each in found] == [thread_id]


def test_a_run_says_what_context_its_nodes_will_find(web: Web) -> None:
    body = {"assistant_id": "plain", "config": {"configurable": {"tone": "kind"}}}
    assert web.call("POST", "/runs", body).json["kwargs"]["context"] == {"tone": "kind"}


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "said"),
    [
        ("POST", "/runs/batch", [], 422, "at least one run"),
        (
            "POST",
            "/runs/cancel",
            {"thread_id": str(uuid.uuid4()), "run_ids": ["x"]},
            422,
            "run_ids: must be a list of UUIDs",
        ),
        ("GET", "/threads/{t}/runs?select=nope", None, 422, "select"),
        ("POST", "/threads/{t}/state", {"values": {}, "as_node": "nobody"}, 400, "nobody"),
    ],
)
def test_what_cannot_be_meant_is_refused(web: Web, method: str, path: str, body: Any, code: int, said: str) -> None:
    thread_id = seeded(web).json["thread_id"]
    answer = web.call(method, path.format(t=thread_id), body)
    assert (answer.status_code, said in answer.json["detail"]) == (code, True), answer.json


def test_a_listing_answers_the_fields_that_are_selected(web: Web) -> None:
    path = f"/threads/{web.thread()}/runs"
    run = web.call("POST", path, {"assistant_id": "plain"}).json
    assert web.call("GET", f"{path}?select=run_id&select=status").json == [
        {"run_id": run["run_id"], "status": "pending"}
    ]
