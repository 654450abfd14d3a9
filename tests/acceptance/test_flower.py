"""Flower beside a real stack: who may look, and what they read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery

from runyard.app.processes import FLOWER, WEB, WORKER
from runyard.engine.settings import Settings
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.stack import Stack, free_port

pytestmark = pytest.mark.timeout(120)


def test_flower_asks_who_it_is_and_shows_runs_as_people_know_them(server: EmbeddedServer, tmp_path: Path) -> None:
    port = free_port()
    stack = Stack(server.url, tmp_path, FLOWER_PORT=port, FLOWER_BASIC_AUTH="me:secret", RUNYARD_LOG_FORMAT="json")
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, auth=("me", "secret"), trust_env=False) as flower:
            stack.start(WEB, WORKER, FLOWER)
            stack.await_ready()

            def sees_worker() -> bool:
                try:
                    # By its events. Without ``status`` it tells what workers answered when Flower started, and no more.
                    return "worker-" in flower.get("/api/workers", params={"status": True}).text
                except httpx.TransportError:
                    return False

            eventually(sees_worker, timeout_s=40, interval_s=0.2, what="Flower knows the worker")
            runs = {name: stack.run(stack.thread(), name, input={}) for name in ("plain", "failing", "asking")}
            ids = {name: path.rpartition("/")[2] for name, path in runs.items()}
            for path in runs.values():
                stack.status(path)

            def shown() -> dict[str, Any] | None:
                rows = {row["name"]: row for row in flower.get("/api/tasks").json().values()}
                ended = [row for row in rows.values() if row["state"] in ("SUCCESS", "FAILURE")]
                return rows if len(ended) >= 3 else None

            rows = eventually(shown, timeout_s=20, what="three tasks have ended")
            assert {name: row["args"] for name, row in rows.items()} == ids
            states = {name: (row["state"], row["result"] or row["exception"]) for name, row in rows.items()}
            assert states == {
                "plain": ("SUCCESS", "finished"),
                "asking": ("SUCCESS", "waits for a person"),
                "failing": ("FAILURE", "fail, attempt 1: ValueError: kaboom"),
            }

            shows_what_is_under_way(flower, stack, Settings.from_env({}, redis_url=server.url))
            assert flower.get("/tasks", auth=("me", "wrong")).status_code == 401
            assert flower.get("/api/tasks", auth=("", "")).status_code == 401
            assert flower.get("/healthcheck", auth=("", "")).status_code == 200
        for member in stack.members:
            member.terminate()
            member.exit_code()
            for line in member.log.read_text().splitlines():
                assert {"event", "level", "timestamp"} <= json.loads(line).keys(), line
    finally:
        stack.close()


def shows_what_is_under_way(flower: httpx.Client, stack: Stack, settings: Settings) -> None:
    """A task that waits is one that was started, for Flower and for Celery's own ``inspect``."""
    path = stack.run(stack.thread(), "waiting", input={"text": "3"})
    run_id = path.rpartition("/")[2]

    def task_in(state: str) -> dict[str, Any] | None:
        rows = flower.get("/api/tasks").json().values()
        return next((row for row in rows if (row["args"], row["state"]) == (run_id, state)), None)

    assert eventually(lambda: task_in("STARTED"), timeout_s=20, what="Flower shows it")["name"] == "waiting"
    celery = Celery(broker=settings.celery_broker, set_as_current=False)
    in_hand = [task for tasks in celery.control.inspect(timeout=1.5).active().values() for task in tasks]
    assert [(task["name"], task["args"]) for task in in_hand] == [("waiting", [run_id])]
    stack.status(path)
    assert eventually(lambda: task_in("SUCCESS"), timeout_s=20, what="Flower shows its end")["runtime"] >= 3
