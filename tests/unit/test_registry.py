"""Loading graphs: everything the attribute of a graph may be, what is kept, and what is broken."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel

from runyard.graphs.registry import GraphBroken, Registry, UnknownGraph, load_project, server_runtime

GRAPH = """
import asyncio, contextlib, threading
from typing import TypedDict
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph_sdk.runtime import ServerRuntime

class State(TypedDict, total=False):
    value: str

def build(value="plain"):
    graph = StateGraph(State)
    graph.add_node("only", lambda state: {"value": value})
    graph.add_edge(START, "only")
    graph.add_edge("only", END)
    return graph

log = []
"""

MakeRegistry = Callable[..., Registry]


@pytest.fixture
def make_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRegistry]:
    """A registry over one file, `GRAPH` and the code given; a graph for each of the attributes named."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    modules, made = set(sys.modules), []

    def make(code: str = "", *attributes: str, **graphs: str) -> Registry:
        (tmp_path / "agent.py").write_text(GRAPH + dedent(code))
        named = {name: f"./agent.py:{name}" for name in attributes} | graphs
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": named, "dependencies": ["."]}))
        made.append(Registry(load_project(tmp_path)))
        return made[-1]

    yield make
    for registry in made:
        registry.close()
    for name in set(sys.modules) - modules:
        if name.startswith("runyard_user_graph_") or name == "kit":
            del sys.modules[name]


def value_of(graph: Any) -> Any:
    return graph.invoke({})["value"]


def broken(registry: Registry, graph_id: str) -> GraphBroken:
    with pytest.raises(GraphBroken) as caught:
        registry.load(graph_id)
    return caught.value


KINDS = {
    "compiled": "compiled = build().compile()",
    "builder": "builder = build()",
    "nested": "class box:\n    inner = build().compile()\nnested = box.inner",
    "functional": "@entrypoint()\ndef functional(given: dict) -> dict:\n    return {'value': 'plain'}",
    "factory": "def factory():\n    return build().compile()",
    "factory_of_a_builder": "factory_of_a_builder = lambda: build()",
    "class_with_a_call": "class Maker:\n    def __call__(self): return build()\nclass_with_a_call = Maker()",
    "coroutine": "async def coroutine():\n    await asyncio.sleep(0)\n    return build().compile()",
    "manager": "@contextlib.contextmanager\ndef manager():\n    yield build().compile()",
    "async_manager": "@contextlib.asynccontextmanager\nasync def async_manager():\n    yield build().compile()",
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_attribute_of_every_kind_becomes_a_graph_and_is_kept(make_registry: MakeRegistry, kind: str) -> None:
    registry = make_registry(KINDS[kind], kind)
    graph = registry.load(kind)
    assert isinstance(graph, Pregel)
    assert value_of(graph) == "plain"
    assert registry.load(kind) is graph


@pytest.mark.parametrize("kind", KINDS)
async def test_loading_on_an_event_loop_shares_the_cache(make_registry: MakeRegistry, kind: str) -> None:
    registry = make_registry(KINDS[kind], kind)
    graph = await registry.aload(kind)
    assert await graph.ainvoke({}) == {"value": "plain"}
    assert registry.load(kind) is graph
    assert await registry.aload(kind) is graph
    await registry.aclose()


def test_a_dotted_attribute_and_a_dotted_module_are_followed(make_registry: MakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "kit.py").write_text(GRAPH + "class tools:\n    graph = build()\n")
    registry = make_registry(dotted="kit:tools.graph")
    assert value_of(registry.load("dotted")) == "plain"


@pytest.mark.parametrize(
    "signature",
    ["c: RunnableConfig", "c", "c: dict", "c: dict[str, str]", "c: 'RunnableConfig', /", "*, config=None, c=None"],
)
def test_a_factory_that_takes_the_config_is_called_for_every_run(make_registry: MakeRegistry, signature: str) -> None:
    code = f"""
    def per_run({signature}):
        config = c or locals()["config"]
        return build(config["configurable"].get("who", "nobody"))
    """
    registry = make_registry(code, "per_run")
    assert value_of(registry.load("per_run", {"configurable": {"who": "ann"}})) == "ann"
    assert value_of(registry.load("per_run", {"configurable": {"who": "bob"}})) == "bob"
    assert value_of(registry.load("per_run", {"tags": []})) == "nobody"
    assert value_of(registry.load("per_run")) == "nobody"


def test_a_factory_may_ask_for_the_server_runtime_and_the_config(make_registry: MakeRegistry) -> None:
    code = """
    async def both(config: RunnableConfig, runtime: ServerRuntime[dict], extra=1):
        run = runtime.execution_runtime
        return build(f"{runtime.access_context} {run.context if run else '-'} {config['configurable']}")
    """
    registry = make_registry(code, "both")
    runtime = server_runtime("threads.create_run", context={"tenant": "a"})
    given = registry.load("both", {"configurable": {"x": 1}}, runtime=runtime)
    assert value_of(given) == "threads.create_run {'tenant': 'a'} {'x': 1}"
    assert value_of(registry.load("both")) == "assistants.read - {}"
    assert value_of(registry.load("both", {})) == "threads.create_run None {}"


def test_using_the_store_in_a_factory_that_was_given_none_is_an_error(make_registry: MakeRegistry) -> None:
    registry = make_registry(
        "def stored(runtime):\n    runtime.store.put(('a',), 'k', {})\n    return build()", "stored"
    )
    assert "no store was given" in str(broken(registry, "stored"))


def test_a_context_manager_without_config_stays_open_until_the_registry_is_closed(make_registry: MakeRegistry) -> None:
    code = """
    @contextlib.contextmanager
    def opened():
        log.append("in")
        yield build(log)
        log.append("out")

    @contextlib.asynccontextmanager
    async def opened_async():
        log.append("in")
        yield build(log)
        log.append("out")
    """
    registry = make_registry(code, "opened", "opened_async")
    for graph_id in ("opened", "opened_async"):
        log = value_of(registry.load(graph_id))
        with registry.open(graph_id):
            pass
    assert log == ["in", "in"]
    registry.close()
    assert log == ["in", "in", "out", "out"]


async def test_a_context_manager_of_one_run_is_left_with_the_block(make_registry: MakeRegistry) -> None:
    code = """
    @contextlib.asynccontextmanager
    async def opened(config):
        log.append(asyncio.get_running_loop())
        yield build(log)
        log.append("out")
    """
    registry = make_registry(code, "opened")
    async with registry.aopen("opened", {}) as graph:
        log = value_of(graph)
        assert log == [asyncio.get_running_loop()]
    assert log[-1] == "out"


def test_many_threads_make_a_graph_once(make_registry: MakeRegistry) -> None:
    code = """
    second = threading.Barrier(2)

    def slow():
        log.append(1)
        with contextlib.suppress(threading.BrokenBarrierError):
            second.wait(0.3)  # nobody else may come in meanwhile
        return build(log)
    """
    registry = make_registry(code, "slow")
    with ThreadPoolExecutor(16) as pool:
        graphs = list(pool.map(lambda _: registry.load("slow"), range(64)))
    assert len({id(graph) for graph in graphs}) == 1
    assert value_of(graphs[0]) == [1]


async def test_many_coroutines_make_a_graph_once(make_registry: MakeRegistry) -> None:
    code = "async def slow():\n    log.append(1)\n    await asyncio.sleep(0)\n    return build(log)"
    registry = make_registry(code, "slow")
    graphs = await asyncio.gather(*(registry.aload("slow") for _ in range(50)))
    assert len({id(graph) for graph in graphs}) == 1
    assert value_of(graphs[0]) == [1]


def test_a_file_with_several_graphs_is_loaded_once(make_registry: MakeRegistry) -> None:
    registry = make_registry("log.append(1)\none = build(log)\ntwo = build(log)", "one", "two")
    assert value_of(registry.load("one")) is value_of(registry.load("two"))
    assert value_of(registry.load("one")) == [1]


def test_a_loaded_file_is_a_real_module_under_a_name_of_its_own(make_registry: MakeRegistry) -> None:
    code = """
    from dataclasses import dataclass

    @dataclass
    class Note:
        text: "str"

    one = build(Note("kept"))
    """
    note = value_of(make_registry(code, "one").load("one"))
    assert type(note).__module__.startswith("runyard_user_graph_")
    assert pickle.loads(pickle.dumps(note)) == note  # noqa: S301 - our own bytes
    assert "agent" not in sys.modules


def test_a_shared_graph_can_be_given_a_checkpointer_of_the_run(make_registry: MakeRegistry) -> None:
    graph = make_registry("one = build()", "one").load("one")
    mine = graph.copy({"checkpointer": InMemorySaver()})
    mine.invoke({}, {"configurable": {"thread_id": "t"}})
    assert graph.checkpointer is None


def test_an_unknown_graph_is_told_from_a_broken_one(make_registry: MakeRegistry) -> None:
    with pytest.raises(UnknownGraph, match=r"no graph 'agnet' in this project; it has one"):
        make_registry("one = build()", "one").load("agnet")


BROKEN = {
    "a missing attribute": ("graf = build()", "there is no 'graph' in it; did you mean 'graf'?"),
    "a wrong type": ("graph = {}", "it is of type dict"),
    "nothing": ("graph = None", "it is None"),
    "an unknown module": ("import no_such_module_here", "No module named 'no_such_module_here'"),
    "an error at import": ("1 / 0", "ZeroDivisionError"),
    "an exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "a syntax error": ("def graph(:", "SyntaxError"),
    "a builder that does not compile": ("graph = StateGraph(State)", "ValueError"),
    "a factory that raises": ("def graph():\n    raise OSError('database is away')", "database is away"),
    "an async factory that raises": ("async def graph():\n    raise OSError('away')", "OSError: away"),
    "an async factory that exits": ("async def graph():\n    raise SystemExit(3)", "sys.exit(3)"),
    "a factory of something else": ("def graph():\n    return 7", "the factory made of type int"),
    "a factory with a strange parameter": ("def graph(model: str):\n    return build()", "parameter 'model'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_graph_says_what_is_wrong_and_where(make_registry: MakeRegistry, kind: str) -> None:
    code, words = BROKEN[kind]
    registry = make_registry(code, "graph")
    error = broken(registry, "graph")
    assert words in str(error)
    assert "graph 'graph' (./agent.py:graph) is broken" in str(error)
    assert (error.graph_id, error.file, error.attribute) == ("graph", "./agent.py", "graph")
    assert error.__cause__ is error.cause
    assert str(pickle.loads(pickle.dumps(error))).startswith("graph 'graph'")  # noqa: S301 - our own bytes


async def test_a_graph_is_as_broken_on_an_event_loop(make_registry: MakeRegistry) -> None:
    registry = make_registry("async def graph():\n    raise SystemExit(3)\nother = 1 / 0", "graph", "other")
    for graph_id in registry.graph_ids():
        with pytest.raises(GraphBroken):
            await registry.aload(graph_id)


def test_the_line_of_the_users_own_code_is_named(make_registry: MakeRegistry, tmp_path: Path) -> None:
    error = broken(make_registry("import json\njson.loads('{')\ngraph = build()", "graph"), "graph")
    line = GRAPH.count("\n") + 2
    assert f"(at {tmp_path.resolve() / 'agent.py'} line {line})" in str(error)


def test_a_missing_file_is_a_broken_graph(make_registry: MakeRegistry) -> None:
    assert "no such file" in str(broken(make_registry(graph="./nowhere.py:graph"), "graph"))


def test_a_broken_graph_leaves_the_others_alone(make_registry: MakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('bad')")
    registry = make_registry(
        "good = build()\ndef per_run(config): return build()", "good", "per_run", "absent", bad="./bad.py:graph"
    )
    found = registry.check_all()
    assert {graph_id: problem is not None for graph_id, problem in found.items()} == {
        "good": False,
        "per_run": False,
        "absent": True,
        "bad": True,
    }
    assert value_of(registry.load("good")) == "plain"


def test_a_failed_import_is_remembered_and_a_failed_factory_is_tried_again(
    make_registry: MakeRegistry, tmp_path: Path
) -> None:
    counting = "import pathlib\nwith pathlib.Path(__file__).with_name('count').open('a') as f: f.write('x')\n"
    (tmp_path / "bad.py").write_text(counting + "1 / 0")
    code = "def away():\n    log.append(1)\n    if len(log) < 2: raise OSError('away')\n    return build(log)"
    registry = make_registry(code, "away", bad="./bad.py:graph")
    errors = [broken(registry, "bad") for _ in range(3)]
    assert (tmp_path / "count").read_text() == "x"
    assert len({id(error) for error in errors}) == 3
    assert "away" in str(broken(registry, "away"))
    assert value_of(registry.load("away")) == [1, 1]
