"""What is too large is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from runyard.engine.errors import StateTooLarge
from runyard.engine.run import Phase
from runyard.engine.store import serde
from tests.support.engine import engine
from tests.support.web import Web

BIG = {"text": "x" * 2000}


class BigState(TypedDict):
    docs: str


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project", max_input_bytes=1000, max_state_bytes=5000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", BIG),
        ("command", {"resume": BIG}),
        ("context", BIG),
        ("config", {"configurable": BIG}),
        ("metadata", BIG),
    ],
)
@pytest.mark.parametrize(
    "path", ["/runs", "/runs/wait", "/threads/{t}/runs", "/threads/{t}/runs/stream", "/runs/batch"]
)
def test_a_field_of_a_run_that_is_too_large_is_named_with_the_limit(
    web: Web, path: str, field: str, value: Any
) -> None:
    body = {"assistant_id": "plain", field: value}
    answer = web.call("POST", path.replace("{t}", web.thread()), [body] if "batch" in path else body)
    assert answer.status_code == 413
    assert answer.json["detail"].startswith(
        f"{field}: at most 1000 bytes of JSON are accepted (RUNYARD_MAX_INPUT_BYTES)"
    )
    assert not web.wakes


def test_many_fields_that_are_small_are_taken(web: Web) -> None:
    body = {"assistant_id": "plain", "input": {"text": "x" * 800}, "metadata": {"a": "x" * 800}}
    assert web.call("POST", "/runs", body).status_code == 200


def test_a_state_key_that_is_too_large_is_named(web: Web) -> None:
    small = serde.strict_serde(100)
    assert serde.encode(small, "small", "x" * 90)
    for one in (small, small.with_msgpack_allowlist([BigState])):
        with pytest.raises(StateTooLarge, match=r'State key "docs" has 10.. bytes, and at most 100 .*MAX_STATE_BYTES'):
            serde.encode(one, "docs", "x" * 1000)
    thread = web.thread()
    started = web.call("POST", f"/threads/{thread}/runs", {"assistant_id": "plain"})
    assert started.status_code == 200
    saver = web.app.extensions["runyard"].service.saver
    assert saver.serde.max_value_bytes == 5000, "what clients write into a state is held to it, too"


async def test_a_run_whose_node_writes_too_much_fails_and_names_the_key(redis_url: str) -> None:
    graph = StateGraph(BigState).add_node("write", lambda _: {"docs": "x" * 3000})
    made = graph.add_edge(START, "write").add_edge("write", END).compile()
    async with engine(redis_url, {"g": made}, max_state_bytes=2000) as eng:
        run = await eng.run("g", {"docs": "x" * 1000})
        assert run.phase is Phase.FAILED
        assert run.error is not None
        assert 'State key "docs" has 3' in run.error["message"]
