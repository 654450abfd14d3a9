"""``runyard doctor`` and ``runyard graphs``: what they find in set-ups that are right and wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from runyard.app.commands.check import Finding
from runyard.app.commands.check_machine import check_graphs, check_langgraph, check_ports, check_python, check_sqlite
from runyard.app.commands.check_store import check_broker, check_host, check_store, check_workers
from runyard.app.exit_codes import ExitCode
from runyard.engine.ids import new_run_id
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store import recovery
from runyard.engine.store.client import SyncStore
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.keys import Keys

KEYS = Keys()
FACTS: dict[str, str | int] = {"host": "h", "pid": 1, "queues": "default", "in_hand": 0, "took_at": 0, "started_at": 0}


@pytest.fixture
def store(redis_url: str) -> Any:
    connected = SyncStore.connect(redis_url)
    yield connected
    connected.close()


def states(findings: Any) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


def only(findings: Any) -> Finding:
    (finding,) = findings
    return finding  # type: ignore[no-any-return]


def workers(store: SyncStore) -> list[Finding]:
    settings = Settings()
    return list(check_workers(Service(store, KEYS, settings, lambda _: None), settings))


def beat(store: SyncStore, *, ago_ms: int = 0, **facts: str | int) -> None:
    store.do_all(recovery.beat(KEYS, "h:1:abc", {**FACTS, **facts}, {}, time.time_ns() // 1_000_000 - ago_ms))


def let_wait(redis: redis_py.Redis, queue: str = "default", *, rewoken: bool = False) -> None:
    """A run that has waited for a minute, woken just now if ``rewoken``."""
    at, since = KEYS.of_run(run_id := new_run_id(3)), round(time.time() * 1000 - 60_000)
    redis.hset(at.run(run_id), mapping={"queue": queue, "updated_at": since})
    redis.zadd(at.waiting, {run_id: since + (60_000 if rewoken else 0)})


def test_this_machine_is_fit() -> None:
    assert [check.state for check in (check_python(), check_langgraph(), check_sqlite())] == ["ok", "ok", "ok"]


def test_the_embedded_store_is_as_it_should_be(store: SyncStore) -> None:
    assert states(check_store(store, KEYS)) == {
        "store": "ok", "eviction": "ok", "persistence": "ok", "partitions": "ok", "encryption": "ok",
    }  # fmt: skip


def test_a_store_that_may_lose_things_is_found(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        with redis_py.Redis.from_url(server.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("appendfsync", "everysec")
            client.hset(KEYS.meta, mapping={"partitions": 8, "layout": 1})
        store = SyncStore.connect(server.url)
        found = {finding.check: finding for finding in check_store(store, KEYS)}
        store.close()
    assert (found["eviction"].state, found["persistence"].state, found["partitions"].state) == ("fail", "warn", "fail")
    assert "allkeys-lru" in found["eviction"].said
    assert found["partitions"].todo.startswith("Set RUNYARD_PARTITIONS=8")


def test_looking_at_a_new_store_writes_nothing_into_it(store: SyncStore, redis: redis_py.Redis) -> None:
    list(check_store(store, KEYS))
    workers(store)
    assert redis.dbsize() == 0


def test_without_a_worker_the_queue_that_nobody_consumes_is_named(store: SyncStore) -> None:
    finding = only(workers(store))
    assert (finding.state, finding.said) == ("fail", "none consumes the queue 'default'")


def test_a_worker_that_takes_runs_is_well(store: SyncStore) -> None:
    beat(store, took_at=time.time_ns() // 1_000_000)
    finding = only(workers(store))
    assert finding.state == "ok"
    assert finding.said.endswith("0 runs in hand, took its last run just now")


def test_a_worker_that_beats_and_takes_nothing_while_runs_wait_is_deaf(store: SyncStore, redis: redis_py.Redis) -> None:
    beat(store)
    let_wait(redis)
    finding = only(workers(store))
    assert finding.state == "fail"
    assert finding.said.startswith("deaf: a run has waited 60 s; h:1:abc:")


def test_a_worker_whose_loop_is_held_up_is_deaf_though_it_has_runs_in_hand(
    store: SyncStore, redis: redis_py.Redis
) -> None:
    let_wait(redis)
    beat(store, in_hand=1, capacity=1000)
    assert only(workers(store)).said.startswith("deaf: a run has waited 60 s")
    beat(store, in_hand=1, capacity=1)  # a prefork child, which is busy
    assert only(workers(store)).state == "ok"


def test_how_long_a_run_waits_does_not_begin_anew_with_every_wake_up(store: SyncStore, redis: redis_py.Redis) -> None:
    beat(store)
    let_wait(redis, rewoken=True)
    assert only(workers(store)).said.startswith("deaf: a run has waited 60 s")


def test_a_worker_is_not_deaf_for_what_waits_in_a_queue_it_does_not_serve(
    store: SyncStore, redis: redis_py.Redis
) -> None:
    beat(store)
    let_wait(redis, "cpu")
    unserved, worker = workers(store)
    assert (unserved.state, unserved.said) == ("fail", "none consumes the queue 'cpu', and a run has waited 60 s")
    assert worker.state == "ok"


def test_a_worker_that_has_been_silent_for_seconds_is_gone(store: SyncStore) -> None:
    beat(store, ago_ms=6_000, in_hand=3)
    unserved, gone = workers(store)
    assert unserved.said == "none consumes the queue 'default'"
    assert (gone.state, gone.said) == (
        "warn",
        "h:1:abc: gone or does not move, last heard of 6 s ago, with 3 runs in hand",
    )


@pytest.mark.parametrize(("host", "state"), [("h", "ok"), ("other", "fail")])
def test_the_workers_of_one_host_are_looked_at_alone(store: SyncStore, host: str, state: str) -> None:
    beat(store)
    finding = only(check_host(Service(store, KEYS, Settings(), lambda _: None), host))
    assert finding.state == state


def test_a_broker_that_is_away_is_told(redis_url: str) -> None:
    assert check_broker(Settings(redis_url=redis_url)).state == "ok"
    away = check_broker(Settings(redis_url=redis_url, broker_url="redis://127.0.0.1:1/0"))
    assert away.state == "fail"
    assert away.said.startswith("redis://127.0.0.1:1/0 does not answer")


def test_a_port_that_another_program_has_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        web, _ = check_ports(Settings(port=port))
    assert (web.state, web.said) == ("warn", f"{port} on 127.0.0.1 is used by another program")


def project(folder: Path) -> Path:
    (folder / "bad.py").write_text("import nothing_of_that_name\n")
    (folder / "langgraph.json").write_text('{"graphs": {"bad": "./bad.py:graph"}, "ui": {"a": "b"}}')
    return folder / "langgraph.json"


def test_a_broken_graph_and_what_is_ignored_are_told(tmp_path: Path) -> None:
    broken, ignored = check_graphs(project(tmp_path))
    assert (broken.check, broken.state, ignored.state) == ("graph bad", "fail", "warn")
    assert "No module named 'nothing_of_that_name'" in broken.said


def test_what_a_project_says_of_webhooks_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = '{"graphs": {}, "webhooks": {"headers": {"x": "${{ env.LG_WEBHOOK_X }}"}}}'
    (tmp_path / "langgraph.json").write_text(said.replace("{}", '{"bad": "./bad.py:graph"}', 1))
    *_, wrong = check_graphs(tmp_path / "langgraph.json")
    assert (wrong.check, wrong.state, "LG_WEBHOOK_X" in wrong.said) == ("webhooks", "fail", True)
    monkeypatch.setenv("LG_WEBHOOK_X", "1")
    *_, right = check_graphs(tmp_path / "langgraph.json")
    assert (right.check, right.state) == ("webhooks", "ok")


@pytest.mark.parametrize(("name", "state"), [("embed", "ok"), ("embedd", "fail")])
def test_what_embeds_for_the_store_is_tried(tmp_path: Path, name: str, state: str) -> None:
    (tmp_path / "vectors.py").write_text("def embed(texts): ...")
    index = {"dims": 2, "embed": f"./vectors.py:{name}"}
    told = {"graphs": {"bad": "./bad.py:graph"}, "store": {"index": index}}
    (tmp_path / "langgraph.json").write_text(json.dumps(told))
    *_, found = check_graphs(tmp_path / "langgraph.json")
    assert (found.check, found.state, f"./vectors.py:{name}" in found.said) == ("embedding", state, True)


def test_a_project_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    finding = only(check_graphs(tmp_path / "langgraph.json"))
    assert (finding.state, finding.check) == ("fail", "graphs")


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runyard.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_doctor_exits_with_1_when_something_failed_and_says_so_as_json(redis_url: str) -> None:
    ran = cli("doctor", "--json", "--redis-url", redis_url)
    report = json.loads(ran.stdout)
    assert (ran.returncode, report["ok"]) == (ExitCode.FAILED, False)
    assert [f["check"] for f in report["findings"] if f["state"] == "fail"] == ["workers"]


def test_doctor_names_a_setting_that_is_wrong_and_still_looks_at_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_PARTITIONS", "0")
    said = cli("doctor").stdout
    assert "RUNYARD_PARTITIONS=0 is not valid" in said
    assert "graph research" in said


def test_doctor_says_when_the_store_is_away() -> None:
    said = cli("doctor", "--redis-url", "redis://127.0.0.1:1").stdout
    assert "→ Start the store, or correct REDIS_URL." in said
    assert "Traceback" not in said


def test_graphs_lists_the_broken_with_their_cause(tmp_path: Path) -> None:
    ran = cli("graphs", "--json", "--project", str(project(tmp_path)))
    (graph,) = json.loads(ran.stdout)["graphs"]
    assert (ran.returncode, graph["graph_id"]) == (ExitCode.OK, "bad")
    assert "ModuleNotFoundError" in graph["problem"]
    one = cli("graphs", "bad", "--project", str(project(tmp_path)))
    assert (one.returncode, len(one.stderr.splitlines())) == (ExitCode.FAILED, 1)


def test_graphs_draws_one() -> None:
    said = cli("graphs", "research").stdout
    assert "└─ plan" in said
    assert "analyse" in said
    assert "graph TD;" in cli("graphs", "research", "--mermaid").stdout
