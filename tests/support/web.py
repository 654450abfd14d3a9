"""A web application on a project of its own, without workers: what is recorded, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from runyard.app.factory import create_app
from runyard.engine.run import Wake
from runyard.engine.settings import Settings

GRAPHS = """
from typing import Annotated, TypedDict
import operator
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

class State(TypedDict, total=False):
    steps: Annotated[list[str], operator.add]
    text: str
    answer: str

def work(state):
    return {"steps": ["work"]}

def ask(state):
    return {"steps": ["ask"], "answer": interrupt({"question": "go on?"})}

def fail(state):
    raise ValueError("kaboom")

def wait(state):
    import time
    time.sleep(float(state.get("text") or 1))
    return {"steps": ["wait"]}

def chain(*nodes):
    builder = StateGraph(State)
    for before, node in zip((START, *[n.__name__ for n in nodes]), nodes):
        builder.add_node(node.__name__, node).add_edge(before, node.__name__)
    return builder.add_edge(nodes[-1].__name__, END).compile()

plain = chain(work)
asking = chain(work, ask)
failing = chain(work, fail)
waiting = chain(work, wait)
"""


def write_project(folder: Path, **more: Any) -> Path:
    """A project with the graphs plain, asking, failing and waiting, and a broken one."""
    folder.mkdir(exist_ok=True)
    (folder / "web_graphs.py").write_text(GRAPHS)
    names = ("plain", "asking", "failing", "waiting")
    graphs = {name: f"./web_graphs.py:{name}" for name in names} | {"broken": "./nowhere.py:graph"}
    file = folder / "langgraph.json"
    file.write_text(json.dumps({"graphs": graphs, **more}))
    return file


class Web:
    """The application, a client of it, and the wake-ups it has sent."""

    def __init__(self, redis_url: str, folder: Path, project: dict[str, Any] | None = None, **settings: Any) -> None:
        self.wakes: list[Wake] = []
        config = str(write_project(folder, **(project or {})))
        self.settings = Settings.from_env({}, redis_url=redis_url, config=config, **settings)
        self.app = create_app(self.settings, wake=self.wakes.extend)
        self.client: FlaskClient = self.app.test_client()

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """An answer; ``body`` is sent as JSON."""
        if body is not None:
            options["json"] = body
        return self.client.open(path, method=method, **options)

    def thread(self, **body: Any) -> str:
        return str(self.call("POST", "/threads", body).json["thread_id"])

    def run(self, thread_id: str, **body: Any) -> Any:
        return self.call("POST", f"/threads/{thread_id}/runs", {"assistant_id": "plain", **body})
