"""GET /circuits and POST /circuits/{name}, and the same from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from runyard.app.cli import cli
from runyard.app.factory import create_app
from runyard.engine.breaker import Circuit, Result
from runyard.engine.store import circuits as calls
from tests.support.store import Bench

CIRCUIT = Circuit("api", min_calls=2)


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    """A store with a circuit that has just opened."""
    made = Bench(redis_url, partitions=16)
    for number in range(2):
        made.do(calls.admit(made.keys, CIRCUIT, f"c{number}"))
        made.do(calls.record(made.keys, CIRCUIT, f"c{number}", 0, Result.ERROR))
    made.do(calls.remember(made.keys, "api"))
    yield made
    made.close()


@pytest.fixture
def client(bench: Bench) -> FlaskClient:
    return create_app(bench.settings, wake=bench.wakes.extend).test_client()


def test_circuits_are_shown_with_what_opened_them(client: FlaskClient) -> None:
    [shown] = client.get("/circuits").get_json()
    assert (shown["name"], shown["mode"], shown["forced"]) == ("api", "open", False)
    assert shown["why"] == "2 of 2 calls failed"
    assert shown["until"] > shown["since"]
    assert shown["thresholds"]["min_calls"] == 2
    one = client.get("/circuits/api").get_json()
    assert [(change["from"], change["to"]) for change in one["history"]] == [("closed", "open")]
    assert client.get("/circuits/other").status_code == 404


def test_an_operator_overrules_a_circuit_with_a_reason(client: FlaskClient) -> None:
    kept = client.post("/circuits/api", json={"state": "closed", "reason": "a false alarm"}).get_json()
    assert (kept["mode"], kept["forced"], kept["why"]) == ("closed", True, "a false alarm")
    free = client.post("/circuits/api", json={"state": "auto", "reason": "done"}).get_json()
    assert (free["mode"], free["forced"]) == ("closed", False)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"state": "ajar", "reason": "x"}, "state"),
        ({"state": "open"}, "reason"),
        ({"state": "open", "reason": " "}, "reason"),
    ],
)
def test_a_wrong_request_is_refused_by_field(client: FlaskClient, body: Any, word: str) -> None:
    answer = client.post("/circuits/api", json=body)
    assert answer.status_code == 422
    assert word in answer.get_json()["detail"]


def test_the_command_line_does_the_same(bench: Bench, tmp_path: Path) -> None:
    def runyard(*words: str) -> Any:
        env = {"REDIS_URL": bench.settings.redis_url}
        return CliRunner().invoke(cli, ["circuits", *words], env=env, standalone_mode=False, catch_exceptions=False)

    assert "2 of 2 calls failed" in runyard("list").output
    assert json.loads(runyard("list", "--json").output)["circuits"][0]["mode"] == "open"
    assert "kept closed" in runyard("close", "api", "--reason", "a false alarm").output
    assert "is closed" in runyard("reset", "api", "--reason", "done").output
    assert "kept open" in runyard("open", "api", "--reason", "they asked us to").output
