"""Assistants that clients make: their versions, how they are found, and the runs that are made with them."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.sdk import sdk
from tests.support.web import Web

PLAIN_ID = str(uuid.uuid5(uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), "plain"))


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project")


def make(web: Web, **body: Any) -> Any:
    return web.call("POST", "/assistants", {"graph_id": "plain", **body}).json


# --- making


def test_an_assistant_is_made_and_found_by_its_id(web: Web) -> None:
    made = make(web, name="mine", description="d", metadata={"m": 1}, config={"tags": ["t"]})
    assert (made["version"], made["name"], made["description"], made["metadata"]) == (1, "mine", "d", {"m": 1})
    assert (made["config"], made["context"]) == ({"tags": ["t"]}, {})
    assert made["created_at"] == made["updated_at"]
    assert web.call("GET", f"/assistants/{made['assistant_id'].upper()}").json == made
    for path in ("graph", "schemas", "subgraphs"):
        assert web.call("GET", f"/assistants/{made['assistant_id']}/{path}").status_code == 200
    assert make(web)["name"] == "Untitled"


def test_config_and_context_mirror_each_other(web: Web) -> None:
    assert make(web, context={"a": 1})["config"] == {"configurable": {"a": 1}}
    assert make(web, config={"configurable": {"a": 1}})["context"] == {"a": 1}
    assert make(web, config={"configurable": {"a": 1}}, context={"a": 1})["context"] == {"a": 1}
    both = {"graph_id": "plain", "config": {"configurable": {"a": 1}}, "context": {"a": 2}}
    assert web.call("POST", "/assistants", both).status_code == 400


def test_an_id_is_taken_once(web: Web) -> None:
    made = make(web, name="first")
    again = {"graph_id": "plain", "assistant_id": made["assistant_id"], "name": "second"}
    assert web.call("POST", "/assistants", again).status_code == 409
    assert web.call("POST", "/assistants", {**again, "if_exists": "do_nothing"}).json == made
    own = {"graph_id": "plain", "assistant_id": PLAIN_ID}
    assert web.call("POST", "/assistants", own).status_code == 409
    assert make(web, assistant_id=PLAIN_ID, if_exists="do_nothing")["name"] == "plain"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"graph_id": "none"}, 404),
        ({}, 422),
        ({"graph_id": "plain", "assistant_id": "x"}, 422),
        ({"graph_id": "plain", "if_exists": "maybe"}, 422),
        ({"graph_id": "plain", "config": []}, 422),
    ],
)
def test_what_cannot_be_made_is_refused(web: Web, body: dict[str, Any], status: int) -> None:
    answer = web.call("POST", "/assistants", body)
    assert (answer.status_code, list(answer.json)) == (status, ["detail"])


# --- versions


def test_every_change_is_a_version(web: Web) -> None:
    made = make(web, name="one", context={"a": 1}, metadata={"m": 1})
    path = f"/assistants/{made['assistant_id']}"
    second = web.call("PATCH", path, {"context": {"b": 2}, "metadata": {"n": 2}}).json
    assert (second["version"], second["name"], second["metadata"]) == (2, "one", {"m": 1, "n": 2})
    assert (second["context"], second["config"]) == ({"b": 2}, {"configurable": {"b": 2}})
    assert second["created_at"] == made["created_at"]
    third = web.call("PATCH", path, {"name": "three", "graph_id": "asking"}).json
    assert (third["version"], third["graph_id"], third["context"]) == (3, "asking", {"b": 2})
    listed = web.call("POST", f"{path}/versions", {})
    assert [each["version"] for each in listed.json] == [3, 2, 1]
    assert "updated_at" not in listed.json[0]
    assert listed.headers["X-Pagination-Total"] == "3"
    assert [each["version"] for each in web.call("POST", f"{path}/versions", {"limit": 1, "offset": 1}).json] == [2]
    assert [each["version"] for each in web.call("POST", f"{path}/versions", {"metadata": {"n": 2}}).json] == [3, 2]


def test_an_older_version_can_be_put_in_force_and_the_next_change_builds_on_it(web: Web) -> None:
    made = make(web, name="one")
    path = f"/assistants/{made['assistant_id']}"
    web.call("PATCH", path, {"name": "two", "metadata": {"m": 2}})
    back = web.call("POST", f"{path}/latest", {"version": 1}).json
    assert (back["version"], back["name"]) == (1, "one")
    assert web.call("GET", path).json == back
    third = web.call("PATCH", path, {"description": "d"}).json
    assert (third["version"], third["name"], third["metadata"]) == (3, "one", {})
    assert web.call("POST", f"{path}/latest", {"version": 9}).status_code == 404
    assert web.call("POST", f"{path}/latest", {}).status_code == 422


def test_changes_that_race_are_all_kept(web: Web) -> None:
    path = f"/assistants/{make(web)['assistant_id']}"

    def patch(number: int) -> int:
        return int(web.app.test_client().patch(path, json={"metadata": {f"m{number}": number}}).status_code)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(patch, range(6))) == {200}
    left = web.call("GET", path).json
    assert (left["version"], left["metadata"]) == (7, {f"m{number}": number for number in range(6)})


# --- finding


def test_both_kinds_are_searched_sorted_and_counted(web: Web) -> None:
    made = [make(web, name=f"mine {letter}", metadata={"tags": ["x"], "n": letter}) for letter in "ba"]
    found = web.call("POST", "/assistants/search", {"graph_id": "plain", "sort_by": "name", "sort_order": "asc"}).json
    assert [each["name"] for each in found] == ["mine a", "mine b", "plain"]
    tagged = {"metadata": {"tags": ["x"]}}
    assert web.call("POST", "/assistants/count", tagged).json == 2
    asked = {**tagged, "limit": 1, "select": ["assistant_id"], "sort_by": "name"}
    page = web.call("POST", "/assistants/search", asked)
    assert page.json == [{"assistant_id": made[0]["assistant_id"]}]
    assert (page.headers["X-Pagination-Total"], page.headers["X-Pagination-Next"]) == ("2", "1")


# --- deleting


def test_a_deleted_assistant_is_gone_and_its_threads_stay_unless_asked(web: Web) -> None:
    made = [make(web)["assistant_id"] for _ in range(2)]
    threads = [web.thread(metadata={"assistant_id": each}) for each in made]
    kept = web.call("DELETE", f"/assistants/{made[0]}")
    assert (kept.status_code, kept.get_data()) == (204, b"")
    assert web.call("DELETE", f"/assistants/{made[1]}?delete_threads=true").status_code == 204
    assert [web.call("GET", f"/threads/{each}").status_code for each in threads] == [200, 404]
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/versions")):
        assert web.call(method, f"/assistants/{made[0]}{path}").status_code == 404
    assert web.call("PATCH", f"/assistants/{made[0]}", {"name": "x"}).status_code == 404
    assert web.run(web.thread(), assistant_id=made[0]).status_code == 404


def test_threads_whose_first_run_is_under_way_go_with_their_assistant(web: Web) -> None:
    mine, other = make(web)["assistant_id"], make(web)["assistant_id"]
    threads = [web.thread() for _ in range(3)]
    web.run(threads[0], assistant_id=mine)
    web.run(threads[1], assistant_id=mine, after_seconds=60)
    web.run(threads[2], assistant_id=other)
    assert web.call("DELETE", f"/assistants/{mine}?delete_threads=true").status_code == 204
    assert [web.call("GET", f"/threads/{each}").status_code for each in threads] == [404, 404, 200]


def test_what_comes_with_a_graph_cannot_be_changed_or_deleted(web: Web) -> None:
    for method, body in (("DELETE", None), ("PATCH", {"name": "x"})):
        answer = web.call(method, f"/assistants/{PLAIN_ID}", body)
        assert answer.status_code == 409
        assert "comes with it" in answer.json["detail"]
    assert [each["version"] for each in web.call("POST", f"/assistants/{PLAIN_ID}/versions").json] == [1]
    assert web.call("POST", f"/assistants/{PLAIN_ID}/latest", {"version": 1}).status_code == 200
    assert web.call("POST", f"/assistants/{PLAIN_ID}/latest", {"version": 2}).status_code == 404


# --- running


def test_a_run_stands_on_its_assistant_and_has_the_last_word(web: Web) -> None:
    config = {"tags": ["a"], "recursion_limit": 7, "configurable": {"x": 1, "y": 1}}
    made = make(web, config=config, metadata={"m": 1, "n": 1})["assistant_id"]
    asked = {"assistant_id": made, "context": {"y": 2}, "config": {"tags": ["b"]}, "metadata": {"n": 2}}
    run = web.run(web.thread(), **asked).json
    assert (run["assistant_id"], run["metadata"]) == (made, {"m": 1, "n": 2, "graph_id": "plain", "assistant_id": made})
    assert run["kwargs"]["context"] == {"x": 1, "y": 2}
    config = run["kwargs"]["config"]
    assert (config["tags"], config["recursion_limit"]) == (["a", "b"], 7)
    assert (config["configurable"]["x"], config["configurable"]["y"]) == (1, 2)
    older = web.run(web.thread(), assistant_id=made, config={"configurable": {"x": 3}}).json["kwargs"]
    assert older["context"] == {"x": 3, "y": 1}
    assert older["context"].items() <= older["config"]["configurable"].items()
    bare = web.call("POST", "/runs", {"assistant_id": made}).json["kwargs"]
    assert bare["context"] == {"x": 1, "y": 1}


def test_a_run_that_gives_both_is_refused_before_its_assistant_is_asked(web: Web) -> None:
    made = make(web, context={"x": 1})["assistant_id"]
    both = {"context": {"x": 2}, "config": {"configurable": {"x": 3}}}
    assert web.run(web.thread(), assistant_id=made, **both).status_code == 400


def test_langgraphs_own_client_is_served(web: Web) -> None:
    with sdk(web) as client:
        made = client.assistants.create("plain", context={"a": 1}, metadata={"m": 1}, name="mine")
        assistant_id = made["assistant_id"]
        assert client.assistants.create("plain", assistant_id=assistant_id, if_exists="do_nothing") == made
        assert client.assistants.update(assistant_id, metadata={"n": 2}, name="yours")["version"] == 2
        assert [each["version"] for each in client.assistants.get_versions(assistant_id)] == [2, 1]
        assert client.assistants.set_latest(assistant_id, 1)["name"] == "mine"
        assert client.assistants.get(assistant_id)["version"] == 1
        assert [each["assistant_id"] for each in client.assistants.search(metadata={"m": 1})] == [assistant_id]
        assert client.assistants.count(name="mine") == 1
        thread = client.threads.create()
        assert client.runs.create(thread["thread_id"], assistant_id)["assistant_id"] == assistant_id
        client.assistants.delete(assistant_id, delete_threads=True)
        assert client.assistants.search(metadata={"m": 1}) == []
