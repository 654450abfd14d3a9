"""The API keeps its own word: whatever is sent, answers are of a kind that /openapi.json describes, and never a 500.

Schemathesis makes requests out of the document, right ones and wrong ones. Ids of things that exist are put into them,
so that more is tried than the 404. The seed is fixed: a failure comes again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.stack import Stack, stack

pytestmark = pytest.mark.timeout(300)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
#: Requests for each operation and each way to make them; and when to stop, in seconds for all.
EXAMPLES, BUDGET_S = 8, 80.0
#: Streams that end with their client only.
ENDLESS = ("/threads/{thread_id}/stream", "/threads/{thread_id}/stream/events")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("stack")) as (made, _):
        yield made


@pytest.fixture(scope="module")
def known(server: Stack) -> dict[str, list[str]]:
    """Ids of what exists."""
    thread_id, asking = server.thread(), server.thread()
    path = server.run(thread_id, "plain", input={"steps": []})
    server.status(path)
    server.status(server.run(asking, "asking", input={"steps": []}))
    state = server.http.get(f"/threads/{thread_id}/state").json()
    assistants = server.http.post("/assistants/search", json={"graph_id": "plain"}).json()
    mine = server.http.post("/assistants", json={"graph_id": "plain"}).json()
    return {
        "thread_id": [thread_id, asking],
        "run_id": [path.rpartition("/")[2]],
        "assistant_id": [assistants[0]["assistant_id"], mine["assistant_id"]],
        "checkpoint_id": [state["checkpoint"]["checkpoint_id"]],
    }


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_one_that_is_described(server: Stack, known: dict[str, list[str]], mode: Any) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    ends = time.monotonic() + BUDGET_S / 2
    faults, tried = [], 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in ENDLESS or time.monotonic() > ends:
            continue
        tried += 1
        try:
            _try(operation, known, mode)
        except BaseExceptionGroup as group:
            faults += [f"{operation.label}: {_short(error)}" for error in group.exceptions]
        except hypothesis.errors.Unsatisfiable:  # nothing about this operation can be wrong
            continue
        except Exception as error:  # noqa: BLE001 - all of them are told at once
            faults.append(f"{operation.label}: {_short(error)}")
    assert not faults, "\n".join(faults)
    assert tried > 20


def _short(error: BaseException) -> str:
    """What is wrong, and the request that shows it, without the schemas in between."""
    lines = [line for line in str(error).splitlines() if line]
    return " ".join([*lines[:2], *(line for line in lines if "curl" in line)])[:600]


def _try(operation: Any, known: dict[str, list[str]], mode: Any) -> None:
    @hypothesis.seed(1)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), which=hypothesis.strategies.integers(0, 3))
    def attempt(case: Any, which: int) -> None:
        _name_what_exists(case, known, which)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = case.call(timeout=20)
            case.validate_response(answer, checks=CHECKS)

    attempt()


def _name_what_exists(case: Any, known: dict[str, list[str]], which: int) -> None:
    """Most requests are about something that exists; and nothing is to start only when the test is long over."""
    for name in case.path_parameters or {}:
        if which and name in known:
            case.path_parameters[name] = known[name][which % len(known[name])]
    for body in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(body, dict):
            body.pop("after_seconds", None)
            if which and "assistant_id" in body:
                body["assistant_id"] = "plain"
