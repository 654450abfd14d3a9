"""A user's own packages: relative imports, and names that are ours too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.graphs.registry import Registry, load_project

GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict, total=False):
    value: str

def build(value):
    graph = StateGraph(State).add_node("only", lambda state: {"value": value})
    return graph.add_edge(START, "only").add_edge("only", END)
"""


@pytest.fixture(autouse=True)
def untouched_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def project(root: Path, graphs: dict[str, str], dependencies: list[str]) -> str:
    return json.dumps({"graphs": graphs, "dependencies": dependencies})


def value_of(root: Path, graph_id: str = "agent") -> object:
    return Registry(load_project(root)).load(graph_id).invoke({})["value"]


AGENT_PACKAGE = {
    "lab_agent/__init__.py": "",
    "lab_agent/nodes/__init__.py": "from .words import WORD",
    "lab_agent/nodes/words.py": "WORD = 'relative'",
    "lab_agent/graph.py": GRAPH + "from .nodes import WORD\ngraph = build(WORD + ' ' + __name__)",
}


def test_a_file_of_an_importable_package_is_imported_as_part_of_it(tmp_path: Path) -> None:
    config = project(tmp_path, {"agent": "./lab_agent/graph.py:graph"}, ["."])
    assert value_of(write(tmp_path, {**AGENT_PACKAGE, "langgraph.json": config})) == "relative lab_agent.graph"


def test_a_package_is_found_in_a_src_folder_that_is_a_dependency(tmp_path: Path) -> None:
    config = project(tmp_path, {"agent": "./src/lab_agent/graph.py:graph"}, ["./src"])
    files = {f"src/{name}": text for name, text in AGENT_PACKAGE.items()}
    assert value_of(write(tmp_path, {**files, "langgraph.json": config})) == "relative lab_agent.graph"


def test_a_package_whose_name_leads_elsewhere_still_has_its_relative_imports(tmp_path: Path) -> None:
    files = {name.replace("lab_agent", "json"): text for name, text in AGENT_PACKAGE.items()}
    config = project(tmp_path, {"agent": "./json/graph.py:graph"}, ["."])
    value = value_of(write(tmp_path, {**files, "langgraph.json": config}))
    assert str(value).startswith("relative runyard_user_graph_")
    assert str(value).endswith(".graph")


def test_two_projects_with_the_same_file_names_do_not_mix(tmp_path: Path) -> None:
    for name in ("one", "two"):
        config = project(tmp_path, {"agent": "./agent.py:graph"}, ["."])
        write(tmp_path / name, {"agent.py": GRAPH + f"graph = build({name!r})", "langgraph.json": config})
    assert value_of(tmp_path / "one") == "one"
    assert value_of(tmp_path / "two") == "two"


PRINT_VALUE = """
import sys
from pathlib import Path
from runyard.graphs.registry import Registry, load_project
print(Registry(load_project(Path(sys.argv[1]))).load("agent").invoke({})["value"])
"""


def test_the_module_name_is_the_same_wherever_the_project_lies(tmp_path: Path) -> None:
    # A checkpoint names the module of the values in it, and the next deploy lies in another folder.
    config = project(tmp_path, {"agent": "./agent.py:graph"}, ["."])
    names = set()
    for folder in ("release-1", "release-2"):
        root = write(tmp_path / folder, {"agent.py": GRAPH + "graph = build(__name__)", "langgraph.json": config})
        done = subprocess.run(
            [sys.executable, "-c", PRINT_VALUE, str(root)], capture_output=True, text=True, check=True
        )
        names.add(done.stdout.strip())
    assert len(names) == 1


OUR_NAMES = ("app", "tasks", "graphs", "engine")

# Started inside a folder that also has packages of these names, as a checkout of Runyard has.
PRINT_BOTH = """
import sys
from pathlib import Path
from runyard.graphs.registry import Registry, load_project
registry = Registry(load_project(Path(sys.argv[1])))
print(registry.load("agent").invoke({})["value"])
print(registry.load("dotted").invoke({})["value"])
import runyard.engine
print(Path(runyard.engine.__file__).parent.name)
"""


def test_a_project_may_call_its_packages_app_tasks_graphs_and_engine(tmp_path: Path) -> None:
    imports = "\n".join(f"from {name}.word import WORD as {name}_word" for name in OUR_NAMES)
    value = " + ' ' + ".join(f"{name}_word" for name in OUR_NAMES)
    files = {f"{name}/__init__.py": "" for name in OUR_NAMES}
    files |= {f"{name}/word.py": f"WORD = 'users {name}'" for name in OUR_NAMES}
    files["graphs/agent.py"] = f"{GRAPH}\nfrom .word import WORD\n{imports}\ngraph = build({value})"
    graphs = {"agent": "./graphs/agent.py:graph", "dotted": "graphs.agent:graph"}
    files["langgraph.json"] = project(tmp_path, graphs, ["."])
    root = write(tmp_path / "user", files)
    decoys = write(tmp_path / "cwd", {f"{name}/__init__.py": "raise RuntimeError('not mine')" for name in OUR_NAMES})
    done = subprocess.run(
        [sys.executable, "-c", PRINT_BOTH, str(root)], cwd=decoys, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    words = "users app users tasks users graphs users engine"
    assert done.stdout.splitlines() == [words, words, "engine"]
