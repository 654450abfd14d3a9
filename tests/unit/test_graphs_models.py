"""The chat model: used when it is named, not before; and what the graphs do with one."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runyard.graphs.models import chat_model, model_name
from runyard.graphs.research.graph import graph

GUIDE = "# Watering\n\nTomatoes are watered every morning.\n"


class Endpoint(ThreadingHTTPServer):
    """Speaks as much of OpenAI's protocol as a chat needs: gives the replies in turn, keeps the prompts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[str] = []
        self.prompts: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.prompts.append(asked["messages"][0]["content"])
        message = {"role": "assistant", "content": self.server.replies.pop(0)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    pytest.importorskip("langchain_openai")
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "throw-away")
    monkeypatch.setenv("RUNYARD_MODEL", "small")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guide.md").write_text(GUIDE)
    monkeypatch.setenv("RUNYARD_DOCS", str(tmp_path))
    monkeypatch.delenv("RUNYARD_MODEL", raising=False)


def test_a_key_in_the_environment_is_not_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "throw-away")
    assert chat_model({}) is None


def test_the_run_chooses_the_model_or_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_MODEL", "small")
    assert model_name({}) == "small"
    assert model_name({"configurable": {"model": "large"}}) == "large"
    assert model_name({"configurable": {"model": "none"}}) is None


def test_a_model_without_its_client_library_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name == "langchain_openai":
            raise ImportError(name)
        return imported(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RuntimeError, match=r"pip install 'runyard\[models\]'"):
        chat_model({"configurable": {"model": "small"}})


async def test_the_model_plans_and_writes_the_answer_with_its_sources(endpoint: Endpoint) -> None:
    endpoint.replies = ["1. tomatoes watering\n2. morning", "Every morning [1]."]
    result = await graph.ainvoke({"question": "When are tomatoes watered?"})
    assert result["answer"].startswith("Every morning [1].\n\nSources\n[1] guide.md:")
    assert (result["model"], result["rounds"]) == ("small", 1)
    assert "Tomatoes are watered every morning." in endpoint.prompts[1]


async def test_the_model_is_told_what_is_missing_and_can_say_that_it_is_enough(endpoint: Endpoint) -> None:
    endpoint.replies = ["tomatoes", "ENOUGH", "In the morning [1]."]
    result = await graph.ainvoke({"question": "When do gardeners drown tomatoes?"})
    assert "gardeners, drown" in endpoint.prompts[1]
    assert result["rounds"] == 2
    assert result["answer"].startswith("In the morning [1].")


async def test_the_model_is_not_asked_to_write_from_nothing(endpoint: Endpoint) -> None:
    endpoint.replies = ["zebras", "zebra stripes", "zebras"]
    result = await graph.ainvoke({"question": "zebras?"})
    assert result["answer"] == "Nothing about zebras was found in 1 files."
    assert endpoint.replies == []
