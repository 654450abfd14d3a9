"""A whole server for clients: store, web and worker as the processes of the Procfile, on a port of its own."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from runyard.app.processes import WEB, WORKER, Process
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.fleet import Member
from tests.support.web import write_project

FINAL = frozenset({"success", "error", "timeout", "interrupted"})


class Stack:
    """The processes, and an HTTP client of them."""

    def __init__(self, redis_url: str, folder: Path, **variables: Any) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "REDIS_URL": redis_url,
            "RUNYARD_CONFIG": str(write_project(folder)),
            "RUNYARD_PORT": str(self.port),
            "RUNYARD_CONCURRENCY": "50",
            "RUNYARD_WORKER_NICE": "0",  # the tests beside it wait for it
            **{name: str(value) for name, value in variables.items()},
        }
        self.members: list[Member] = []
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def start(self, *kinds: Process) -> None:
        for kind in kinds:
            self.members.append(Member(kind, self.env, self.folder / f"{kind.name}.log"))

    def await_ready(self) -> None:
        def is_ready() -> bool:
            assert all(member.is_running() for member in self.members), self.tails()
            try:
                return self.http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(is_ready, timeout_s=60, interval_s=0.1, what="the stack is ready")

    def tails(self) -> str:
        return "\n".join(f"--- {member.log.name}\n{member.log.read_text()[-2000:]}" for member in self.members)

    def close(self) -> None:
        self.http.close()
        for member in self.members:
            member.close()

    # --- what clients do

    def thread(self) -> str:
        return str(self.http.post("/threads", json={}).json()["thread_id"])

    def post(self, path: str, assistant_id: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json={"assistant_id": assistant_id, **body})

    def run(self, thread_id: str, assistant_id: str, **body: Any) -> str:
        """A run's path, once it is recorded."""
        answer = self.post(f"/threads/{thread_id}/runs", assistant_id, **body)
        assert answer.status_code == 200, answer.text
        return answer.headers["Content-Location"]

    def status(self, path: str, *wanted: str) -> str:
        """Wait until a run has one of these statuses, or any final one."""
        accepted = frozenset(wanted) or FINAL

        def reached() -> str | None:
            now = self.http.get(path).json()["status"]
            return now if now in accepted else None

        return eventually(reached, timeout_s=30, what=f"{path} is {' or '.join(accepted)}") or ""


def parse_events(text: str) -> list[dict[str, str]]:
    """Server-sent events as their fields; comments are left out."""
    blocks = (block.splitlines() for block in text.split("\n\n"))
    return [dict(line.split(": ", 1) for line in lines) for lines in blocks if lines and not lines[0].startswith(":")]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def stack(folder: Path, **variables: Any) -> Iterator[tuple[Stack, EmbeddedServer]]:
    """Store, web and a worker, gone with the block."""
    with EmbeddedServer() as server:
        made = Stack(server.url, folder, **variables)
        try:
            made.start(WEB, WORKER)
            made.await_ready()
            yield made, server
        finally:
            made.close()
