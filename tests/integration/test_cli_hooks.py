"""Webhooks and crons from the command line, on the store itself."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runyard.app.cli import cli as root
from runyard.engine import delivery
from runyard.engine.crons import Crons
from runyard.engine.run import Phase, RunRequest
from runyard.engine.store import runs, webhooks as calls
from runyard.engine.store.crons import Cron
from runyard.engine.webhooks import NotDelivered
from tests.support.store import EVENTS_TTL_MS, Bench

HOOK = "https://hooks.dev/told"


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, partitions=16)
    yield made
    made.close()


def runyard(bench: Bench, *arguments: str) -> Result:
    env = {"REDIS_URL": bench.settings.redis_url, "COLUMNS": "160"}
    return CliRunner().invoke(root, arguments, env=env, standalone_mode=False)


def given_up(bench: Bench) -> str:
    """A run whose webhook was given up."""
    run = bench.create(request=RunRequest(webhook=HOOK))
    claim = bench.claimed(run)
    bench.do(runs.end(bench.keys, run, claim.fence, Phase.SUCCEEDED, events_ttl_ms=EVENTS_TTL_MS))
    bench.do(calls.claim(bench.keys, run.run_id, nonce="n", lease_ms=1000))
    bench.do(calls.settle(bench.keys, run.run_id, "n", NotDelivered("the receiver answered 503", None, 503)))
    return run.run_id


def test_webhooks_that_were_given_up_are_listed_and_sent_anew(bench: Bench) -> None:
    assert runyard(bench, "webhooks", "list").output == "no webhook is failed\n"
    run_id = given_up(bench)
    shown = runyard(bench, "webhooks", "list").output
    assert run_id in shown
    assert HOOK in shown
    assert "1 attempt, 0 s ago" in shown
    assert "the receiver answered 503" in shown
    (told,) = json.loads(runyard(bench, "webhooks", "list", "--json").output)["webhooks"]
    assert (told["run_id"], told["webhook"], told["delivery"]["status_code"]) == (run_id, HOOK, 503)
    assert json.loads(runyard(bench, "webhooks", "resend", run_id, "--json").output)["delivery"]["state"] == "pending"
    assert runyard(bench, "webhooks", "list").output == "no webhook is failed\n"
    assert run_id in runyard(bench, "webhooks", "list", "--state", "pending").output
    assert [run.run_id for run in delivery.search(bench.service, "pending", limit=5)] == [run_id]


def test_crons_are_listed_and_deleted(bench: Bench) -> None:
    assert runyard(bench, "crons", "list").output == "there are no crons\n"
    facts: dict[str, Any] = {"own": True, "thread_id": None, "end_at": None, "enabled": True, "payload": {}}
    made = Crons(bench.service).create(
        Cron(
            cron_id="", assistant_id=str(uuid.uuid4()), graph_id="g", schedule="0 9 * * *", timezone="Europe/Berlin",
            on_run_completed="delete", request=RunRequest(), strategy="enqueue", metadata={}, **facts,
        )
    )  # fmt: skip
    shown = runyard(bench, "crons", "list").output
    assert made.cron_id in shown
    assert "0 9 * * * Europe/Berlin" in shown
    assert shown.endswith("1 of 1 crons\n")
    told = json.loads(runyard(bench, "crons", "list", "--json").output)
    assert (told["total"], told["crons"][0]["cron_id"]) == (1, made.cron_id)
    assert runyard(bench, "crons", "delete", made.cron_id).output == f"deleted {made.cron_id}\n"
    assert runyard(bench, "crons", "list").output == "there are no crons\n"
    assert runyard(bench, "crons", "delete", made.cron_id).exit_code != 0
