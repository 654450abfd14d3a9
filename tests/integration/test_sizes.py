"""What is too large is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runyard.engine.errors import StateTooLarge
from runyard.engine.store import serde
from tests.support.web import Web

BIG = {"text": "x" * 2000}


@pytest.fixture
def web(redis_url: str, tmp_path: Path) -> Web:
    return Web(redis_url, tmp_path / "project", max_input_bytes=1000)


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


def test_a_state_key_that_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serde, "MAX_VALUE_BYTES", 100)
    assert serde.encode(serde.strict_serde(), "small", "x" * 90)
    with pytest.raises(StateTooLarge, match=r'State key "docs" has 10.. bytes, and at most 100'):
        serde.encode(serde.strict_serde(), "docs", "x" * 1000)
