"""LangGraph's JavaScript clients, as they are published, against a running server: the SDK, and React's useStream.

What they do stands in tests/acceptance/node, in their language; node's own test runner runs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack, stack
from tests.support.web import GRAPHS, write_project

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]

HERE = Path(__file__).parent / "node"
#: Set where the packages must be there: then what is missing is a failure and no reason to skip.
REQUIRED = "RUNYARD_TEST_NODE"

CHAT = """
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.language_models.chat_models import BaseChatModel
from langgraph.config import get_stream_writer
from langgraph.graph import MessagesState

class Slow(BaseChatModel):
    "A model that says four words, one after the other, or as many as it is asked for."
    @property
    def _llm_type(self):
        return "slow"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        import asyncio
        last = messages[-1].content if messages else ""
        words = ["tick "] * 400 if last == "for long" else ["one ", "two ", "three ", "four"]
        for word in words:
            await asyncio.sleep(0.05)
            chunk = ChatGenerationChunk(message=AIMessageChunk(word))
            if run_manager:
                await run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        from langchain_core.language_models.chat_models import agenerate_from_stream
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

async def say(state):
    get_stream_writer()({"note": "speaking"})
    return {"messages": [await Slow().ainvoke(state["messages"])]}

def approve(state):
    from langchain_core.messages import AIMessage
    return {"messages": [AIMessage("you said " + interrupt({"question": "go on?"}))]}

chat = StateGraph(MessagesState).add_node("say", say).add_edge(START, "say").add_edge("say", END).compile()
approval = (
    StateGraph(MessagesState).add_node("say", say).add_node("approve", approve)
    .add_edge(START, "say").add_edge("say", "approve").add_edge("approve", END).compile()
)
"""


def project(folder: Path) -> Path:
    file = write_project(folder)
    (folder / "chat_graphs.py").write_text(GRAPHS + CHAT)
    told = json.loads(file.read_text())
    told["graphs"] |= {name: f"./chat_graphs.py:{name}" for name in ("chat", "approval")}
    file.write_text(json.dumps(told))
    return file


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.stack.write_project", project)
        with stack(tmp_path_factory.mktemp("stack")) as (made, _):
            yield made


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tests, and beside them the packages, which are installed once for each package.json."""
    require_node()
    wanted = (HERE / "package.json").read_text()
    name = f"runyard-npm-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    installed = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / name
    if not installed.exists():
        install(installed, wanted)
    folder = tmp_path_factory.mktemp("node")
    for source in HERE.iterdir():
        shutil.copy(source, folder / source.name)
    (folder / "node_modules").symlink_to(installed / "node_modules")
    return folder


def require_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        unavailable("node and npm are not on PATH")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < 20:
        unavailable(f"node is {version}; the clients need 20")


def install(to: Path, wanted: str) -> None:
    """All of it or nothing, also beside others who install the same."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f"{to.name}-") as half:
        (Path(half) / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
        try:
            done = subprocess.run(command, cwd=half, capture_output=True, text=True, timeout=150, check=False)
        except subprocess.TimeoutExpired:
            unavailable("npm install took too long")
        if done.returncode:
            unavailable(f"npm install failed: {done.stderr[-500:]}")
        (Path(half) / "whole").mkdir()
        for name in ("package.json", "node_modules"):
            (Path(half) / name).rename(Path(half) / "whole" / name)
        with contextlib.suppress(OSError):  # somebody else was faster
            (Path(half) / "whole").rename(to)


def unavailable(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


def run(server: Stack, packages: Path, file: str, **variables: str) -> None:
    """Run one file of tests; what it prints is the failure's message."""
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "--test-timeout=200000", file],
        cwd=packages,
        env={**os.environ, "SERVER": server.url, "NODE_ENV": "test", **variables},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "# pass 0" not in done.stdout, done.stdout


@pytest.mark.parametrize("sdk", ["@langchain/langgraph-sdk", "langgraph-sdk-2"])
def test_the_sdk(server: Stack, packages: Path, sdk: str) -> None:
    run(server, packages, "sdk.test.mjs", SDK=sdk)


@pytest.mark.parametrize("file", ["use-stream.test.mjs", "react.test.mjs"])
def test_react(server: Stack, packages: Path, file: str) -> None:
    run(server, packages, file)
