"""``runyard up`` before it starts anything: what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.app.exit_codes import ExitCode
from runyard.app.place import Place
from runyard.app.up import programs, stop_order
from runyard.engine.store.client import SyncStore
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import open_store
from runyard.engine.vault import Vault


def up(*options: str) -> tuple[int, dict[str, str], str]:
    ran = subprocess.run(
        [sys.executable, "-m", "runyard.app.up", "--json", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ran.returncode, json.loads(ran.stdout or "{}"), ran.stderr


def test_a_port_in_use_stops_it_with_a_code_of_its_own_and_no_store_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said, stderr = up("--port", str(port), "--data", str(tmp_path / "data"))
    assert code == ExitCode.PORT_IN_USE
    assert said["code"] == "port_in_use"
    assert f"Port {port}" in said["message"]
    assert said["message"] in stderr
    assert not (tmp_path / "data").exists()


def test_a_data_folder_in_use_stops_it_with_a_code_of_its_own(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "data") as server:
        code, said, _ = up("--port", "0", "--data", str(tmp_path / "data"))
        assert server.is_running()
        assert f"whose store is process {server.pid}" in said["message"]
    assert code == ExitCode.DATA_DIR_IN_USE


def test_an_open_host_is_refused_with_the_reason(tmp_path: Path) -> None:
    code, said, _ = up("--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "data"))
    assert code == ExitCode.CONFIG
    assert "opens the API to everyone" in said["message"]


def test_a_configuration_file_that_does_not_exist_is_a_usage_error() -> None:
    code, _, stderr = up("--config", "nowhere/langgraph.json")
    assert code == ExitCode.USAGE
    assert "nowhere/langgraph.json" in stderr


def test_a_setting_that_is_wrong_is_named_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_LEASE_S", "soon")
    code, said, _ = up("--port", "0", "--data", str(tmp_path / "data"))
    assert code == ExitCode.CONFIG
    assert said["message"].startswith("RUNYARD_LEASE_S='soon' is not valid")
    assert not (tmp_path / "data").exists()


def test_a_store_whose_key_is_missing_is_refused_by_the_keys_name(redis_url: str) -> None:
    open_store(SyncStore.connect(redis_url), Keys(vault=Vault({"spring": bytes(32)})))
    code, said, _ = up("--port", "0", "--redis-url", redis_url)
    assert code == ExitCode.CONFIG
    assert "under the key 'spring'" in said["message"]


def test_a_worker_that_is_set_to_drain_for_longer_gets_longer() -> None:
    place = Place(host="127.0.0.1", port=1, flower_port=2, redis_url="redis://h", data=None)
    usual = {program.name: program.drain_s for program in programs(place, None, {})}
    longer = {program.name: program.drain_s for program in programs(place, None, {"RUNYARD_DRAIN_S": "100"})}
    assert usual["worker"] == 30
    assert longer["worker"] == 110


def test_several_workers_have_names_of_their_own_and_are_started_alike() -> None:
    place = Place(host="127.0.0.1", port=1, flower_port=2, redis_url="redis://h", data=None)
    made = [one for one in programs(place, None, {}, workers=3) if one.name.startswith("worker")]
    assert [one.name for one in made] == ["worker", "worker-2", "worker-3", "worker-cpu"]
    assert made[0].argv == made[2].argv
    assert made[0].env == made[2].env


def test_all_workers_are_stopped_together() -> None:
    assert stop_order(3) == [["web"], ["worker", "worker-2", "worker-3", "worker-cpu"], ["flower"]]


def test_the_children_are_told_where_everything_is(tmp_path: Path) -> None:
    place = Place(host="::1", port=8200, flower_port=5600, redis_url="unix:///s?db=0", data=tmp_path)
    web, worker, worker_cpu, flower = programs(place, Path("langgraph.json"), {"PATH": "/bin", "MINE": "kept"})
    assert (web.name, worker.name, worker_cpu.name, flower.name) == ("web", "worker", "worker-cpu", "flower")
    assert web.env["RUNYARD_HOST"] == "[::1]"
    assert web.env["RUNYARD_PORT"] == "8200"
    assert web.env["REDIS_URL"] == "unix:///s?db=0"
    assert web.env["RUNYARD_CONFIG"] == str(Path.cwd() / "langgraph.json")
    assert web.env["MINE"] == "kept"
    assert flower.env["FLOWER_PORT"] == "5600"
    assert worker.env["PATH"].startswith(str(Path(sys.executable).parent))


def test_what_a_project_says_wrong_about_webhooks_is_told_before_anything_is_started(tmp_path: Path) -> None:
    project = tmp_path / "langgraph.json"
    said_there = {"headers": {"authorization": "Bearer ${{ env.LG_WEBHOOK_NONE }}"}}
    project.write_text(json.dumps({"graphs": {"a": "./a.py:graph"}, "webhooks": said_there}))
    code, said, _ = up("--port", "0", "--data", str(tmp_path / "data"), "--config", str(project))
    assert code == ExitCode.CONFIG
    assert said["message"] == "webhooks.headers.authorization uses LG_WEBHOOK_NONE, which is not set."
    assert not (tmp_path / "data").exists()
