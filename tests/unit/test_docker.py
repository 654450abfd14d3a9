"""There is no Docker engine where the tests run: what can be wrong in a compose file is read out of it."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import yaml

from runyard.app.processes import PROCESSES, Process
from runyard.engine.settings import Settings
from runyard.engine.store.embedded import find_binary
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
#: Prometheus and Grafana, which stand beside the stack.
BESIDE: dict[str, Any] = {
    name: service
    for name, service in yaml.safe_load((ROOT / "docker/compose.metrics.yaml").read_text())["services"].items()
    if "image" in service
}
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
OURS = [process.name for process in PROCESSES]

each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
ALL = SERVICES | BESIDE
each_service = pytest.mark.parametrize("name", ALL)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@each_process
def test_the_procfile_and_the_table_of_processes_say_the_same(process: Process) -> None:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert lines[process.name] == process.command
    assert set(lines) == set(OURS)


@each_process
def test_a_service_runs_the_line_of_the_procfile(process: Process) -> None:
    shell, flag, line = SERVICES[process.name]["command"]
    assert (shell, flag) == ("/bin/sh", "-c")
    assert line.replace("$$", "$") == f"exec {process.command}"


@each_process
def test_a_service_is_given_as_long_to_stop_as_the_process_takes(process: Process) -> None:
    assert seconds(SERVICES[process.name]["stop_grace_period"]) >= process.drain_s


@each_process
def test_every_variable_of_a_command_has_a_default_and_every_setting_in_it_exists(process: Process) -> None:
    with_default = set(re.findall(r"\$\{(\w+):-[^}]+\}", process.command))
    assert with_default == set(re.findall(r"\$\{?(\w+)", process.command))
    documented = (ROOT / ".env.example").read_text()
    assert all(f"{variable}=" in documented for variable in with_default)


@each_process
def test_a_command_is_one_program_without_further_shell(process: Process) -> None:
    expanded = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {process.command}"], capture_output=True, text=True, check=True, env={}
    ).stdout.splitlines()
    plain = [re.sub(r"^(worker.*-)\d+@", r"\1$$@", word) for word in expanded]
    assert plain == shlex.split(re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", process.command))
    assert expanded[0] in {"gunicorn", "runyard", "runyard-worker"}


def test_the_services_are_the_processes_and_the_store() -> None:
    assert set(SERVICES) == {*OURS, "valkey"}


@each_service
def test_an_image_is_pinned_to_a_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", ALL[name]["image"])


def test_base_images_are_pinned_to_a_version() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert bases
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)


@each_service
def test_a_port_is_published_on_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in ALL[name].get("ports", []))


def test_the_store_is_not_published() -> None:
    assert "ports" not in SERVICES["valkey"]


@each_service
def test_a_service_says_how_it_is_checked_and_comes_back_by_itself(name: str) -> None:
    check = ALL[name]["healthcheck"]
    assert {"test", "interval", "timeout", "retries"} <= set(check)
    assert ALL[name]["restart"] == "unless-stopped"


@each_service
def test_a_service_may_do_no_more_than_it_needs(name: str) -> None:
    service = ALL[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user", "image") != "root"
    assert "privileged" not in service


def test_the_image_does_not_run_as_root() -> None:
    last_stage = DOCKERFILE.split("FROM ")[-1]
    assert re.search(r"^USER (?!0\b|root\b)\S+", last_stage, re.MULTILINE)


def test_no_secret_is_in_the_files() -> None:
    for path in (path for path in (ROOT / "docker").rglob("*") if path.is_file()):
        for line in path.read_text().splitlines():
            if match := re.search(r"^\s*#?\w*(?:PASSWORD|SECRET|TOKEN|DSN|KEY)\w*[:=]\s*(\S+)", line):
                assert match[1].startswith(("${", "$$")), line


@pytest.mark.parametrize("name", OURS)
def test_a_setting_in_an_environment_is_one_that_exists(name: str) -> None:
    documented = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(SERVICES[name]["environment"]) <= documented


def test_workers_wait_until_the_store_is_healthy() -> None:
    assert all(SERVICES[name]["depends_on"] == {"valkey": {"condition": "service_healthy"}} for name in OURS)


def test_workers_have_time_to_drain_as_set() -> None:
    default = Settings().drain_s
    assert SERVICES["worker"]["environment"]["RUNYARD_DRAIN_S"] == f"${{RUNYARD_DRAIN_S:-{default:g}}}"
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > default


def test_what_the_image_copies_exists_and_reaches_the_builder() -> None:
    copied = [word for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    let_through = re.findall(r"^!(\S+)", (ROOT / "docker/Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in let_through) for name in copied)


def test_the_store_of_compose_starts_with_the_promised_durability(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/valkey-server").symlink_to(find_binary())
    script = SERVICES["valkey"]["command"][2].replace("$$", "$").replace("dir /data", f"dir {tmp_path}")
    script = script.replace("CONF\n", f"CONF\nport 0\nunixsocket {tmp_path}/s\n", 1)
    path = os.pathsep.join([str(tmp_path / "bin"), os.defpath])
    started = subprocess.Popen(
        ["/bin/sh", "-c", script], env={"VALKEY_PASSWORD": "s3cret", "PATH": path}, stdout=subprocess.DEVNULL
    )
    try:
        eventually((tmp_path / "s").exists)
        with redis_py.Redis(unix_socket_path=f"{tmp_path}/s", password="s3cret", decode_responses=True) as client:
            wanted = {
                "appendonly": "yes",
                "appendfsync": "always",
                "save": "",
                "maxmemory-policy": "noeviction",
                "requirepass": "s3cret",
            }
            assert client.config_get(*wanted) == wanted
    finally:
        started.terminate()
        started.wait()
