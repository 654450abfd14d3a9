"""The long-term store over HTTP, in the shapes of LangGraph's API."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.sdk import sdk
from tests.support.web import Web


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project")


def put(web: Web, namespace: list[str], key: str, value: Any, **more: Any) -> int:
    body = {"namespace": namespace, "key": key, "value": value, **more}
    return int(web.call("PUT", "/store/items", body).status_code)


def test_an_item_is_put_got_and_deleted(web: Web) -> None:
    answer = web.call("PUT", "/store/items", {"namespace": ["a", "b"], "key": "k", "value": {"n": 1}, "index": False})
    assert (answer.status_code, answer.get_data()) == (204, b"")
    item = web.call("GET", "/store/items?namespace=a.b&key=k").json
    assert (item["namespace"], item["key"], item["value"]) == (["a", "b"], "k", {"n": 1})
    assert datetime.fromisoformat(item["created_at"]).utcoffset() is not None
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}
    for _ in range(2):
        answer = web.call("DELETE", "/store/items", {"namespace": ["a", "b"], "key": "k"})
        assert (answer.status_code, answer.get_data()) == (204, b"")
    missing = web.call("GET", "/store/items?namespace=a.b&key=k")
    assert (missing.status_code, missing.get_data()) == (200, b"null")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"namespace": ["a.b"]}, "namespace"),
        ({"namespace": []}, "namespace"),
        ({"namespace": [""]}, "namespace"),
        ({"namespace": "a"}, "namespace"),
        ({"namespace": ["langgraph", "x"]}, "langgraph"),
        ({"namespace": ["a"] * 40}, "labels"),
        ({"key": 1}, "key"),
        ({"key": "k" * 5000}, "key"),
        ({"value": None}, "value"),
        ({"value": [1]}, "value"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": 1e300}, "ttl"),
        ({"index": True}, "index"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(web: Web, change: dict[str, Any], named: str) -> None:
    answer = web.call("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}, **change})
    assert answer.status_code == 422
    assert named in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/store/items?namespace=a", None),
        ("GET", "/store/items?namespace=a..b&key=k", None),
        ("GET", "/store/items?namespace=&key=k", None),
        ("GET", "/store/items?namespace=a&key=k&refresh_ttl=perhaps", None),
        ("POST", "/store/items/search", {"namespace_prefix": ["a.b"]}),
        ("POST", "/store/items/search", {"filter": {"n": {"$in": [1]}}}),
        ("POST", "/store/items/search", {"limit": 0}),
        ("POST", "/store/namespaces", {"prefix": ["a", ""]}),
        ("POST", "/store/namespaces", {"max_depth": 0}),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(web: Web, method: str, path: str, body: Any) -> None:
    answer = web.call(method, path, body)
    assert (answer.status_code, list(answer.json)) == (422, ["detail"])


def test_items_are_found_below_a_namespace_by_filter_and_in_pages(web: Web) -> None:
    for number in range(4):
        put(web, ["u", str(number % 2)], f"k{number}", {"n": number})
    put(web, ["other"], "k", {"n": 9})

    def keys(**asked: Any) -> list[str]:
        found = web.call("POST", "/store/items/search", {"namespace_prefix": ["u"], **asked}).json
        return [item["key"] for item in found["items"]]

    assert keys() == ["k0", "k2", "k1", "k3"]
    assert keys(filter={"n": {"$gte": 2}}) == ["k2", "k3"]
    assert keys(limit=2, offset=1) == ["k2", "k1"]
    assert keys(query="anything at all") == keys()
    assert len(web.call("POST", "/store/items/search").json["items"]) == 5
    assert web.call("POST", "/store/items/search", {}).json["items"][0]["score"] is None


def test_a_time_to_live_of_the_project_holds_for_items_that_name_none(
    redis_url: str, redis: Any, tmp_path: Path
) -> None:
    web = Web(redis_url, tmp_path / "project", {"store": {"ttl": {"default_ttl": 5}}})
    put(web, ["a"], "k", {})
    put(web, ["a"], "long", {}, ttl=60)
    lives = {key.rsplit(b"\0", 1)[-1]: redis.pttl(key) for key in redis.keys("*:item:*")}
    assert 200_000 < lives[b"k"] <= 300_000
    assert lives[b"long"] > 3_000_000


def test_langgraphs_own_client_is_served(web: Web) -> None:
    with sdk(web) as client:
        client.store.put_item(["docs", "u1"], "k", {"n": 1}, ttl=10)
        client.store.put_item(["docs", "u2"], "k", {"n": 2})
        assert client.store.get_item(["docs", "u1"], "k", refresh_ttl=True)["value"] == {"n": 1}
        assert client.store.get_item(["docs", "u1"], "none") is None
        found = client.store.search_items(["docs"], filter={"n": 2}, refresh_ttl=False)
        assert [(item["namespace"], item["score"]) for item in found["items"]] == [(["docs", "u2"], None)]
        assert client.store.list_namespaces(prefix=["docs"])["namespaces"] == [["docs", "u1"], ["docs", "u2"]]
        assert client.store.list_namespaces(suffix=["u2"], max_depth=1)["namespaces"] == [["docs"]]
        client.store.delete_item(["docs", "u1"], "k")
        assert client.store.get_item(["docs", "u1"], "k") is None


EMBED = """
WORDS = ("cat", "dog")

def embed(texts):
    if any("broken" in text for text in texts):
        raise ConnectionError("the provider is away")
    return [[float(text.count(word)) for word in WORDS] for text in texts]

async def aembed(texts):
    return embed(texts)
"""


@pytest.mark.parametrize("function", ["embed", "aembed"])
def test_items_are_found_by_what_they_mean(redis_url: str, tmp_path: Path, function: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "vectors.py").write_text(EMBED)
    index = {"dims": 2, "embed": f"./vectors.py:{function}", "fields": ["text"]}
    web = Web(redis_url, folder, {"store": {"index": index}})
    assert put(web, ["a"], "hidden", {"text": "cat"}, index=False) == 204
    assert put(web, ["a"], "other", {"text": "dog", "note": "cat"}, index=["note"]) == 204
    assert put(web, ["a"], "both", {"text": "cat dog", "n": 1}) == 204

    def found(**body: Any) -> list[tuple[str, Any]]:
        answer = web.call("POST", "/store/items/search", {"namespace_prefix": ["a"], **body})
        return [(item["key"], item["score"] and round(item["score"], 3)) for item in answer.json["items"]]

    assert found(query="cat") == [("other", 1.0), ("both", 0.707), ("hidden", None)]
    assert found(query="cat", filter={"n": 1}) == [("both", 0.707)]
    assert [score for _, score in found()] == [None] * 3
    answer = web.call("PUT", "/store/items", {"namespace": ["a"], "key": "both", "value": {"text": "broken"}})
    assert answer.status_code == 502
    assert answer.json["detail"] == "store.index.embed has failed: ConnectionError: the provider is away"
    assert web.call("GET", "/store/items?namespace=a&key=both").json["value"]["text"] == "cat dog"


def test_a_query_without_an_embedding_changes_nothing(web: Web) -> None:
    assert put(web, ["a"], "k", {"text": "cat"}, index=["text"]) == 204
    answer = web.call("POST", "/store/items/search", {"query": "dog"})
    assert [(item["key"], item["score"]) for item in answer.json["items"]] == [("k", None)]
