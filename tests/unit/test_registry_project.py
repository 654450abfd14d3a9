"""Reading langgraph.json: what is accepted, what is refused and how it is said, what it changes in the process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from runyard.graphs.registry import GraphConfigError, GraphSpec, Registry, load_project

AGENT = {"agent": "./agent.py:graph"}


@pytest.fixture(autouse=True)
def untouched_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What loading a project does to the process ends with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ.copy())


def project_file(folder: Path, content: dict[str, Any] | str) -> Path:
    file = folder / "langgraph.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def refusal(folder: Path, content: dict[str, Any] | str) -> str:
    file = project_file(folder, content)
    with pytest.raises(GraphConfigError) as caught:
        load_project(file)
    assert str(caught.value).startswith(f"{file.resolve()}: ")
    return caught.value.problem


def test_a_graph_is_named_by_a_file_or_a_module_or_an_object_with_a_description(tmp_path: Path) -> None:
    graphs = {
        "file": "./src/agent.py:graph",
        "module": "my_agent.graph:make",
        "object": {"path": "./agent.py:built.graph", "description": "Answers.", "other": 1},
    }
    project = load_project(project_file(tmp_path, {"graphs": graphs}))
    assert project.root == tmp_path.resolve()
    assert project.graphs == {
        "file": GraphSpec("file", "./src/agent.py", "graph"),
        "module": GraphSpec("module", "my_agent.graph", "make"),
        "object": GraphSpec("object", "./agent.py", "built.graph", "Answers."),
    }


def test_the_folder_of_the_file_will_do_and_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    project_file(tmp_path, "\ufeff" + json.dumps({"graphs": AGENT}))
    assert list(load_project(tmp_path).graphs) == ["agent"]


def test_without_a_path_it_is_the_built_in_project_and_sys_path_is_left_alone() -> None:
    before = list(sys.path)
    assert list(load_project(None).graphs) == ["research", "approval", "digest"]
    assert load_project(None).warnings == []
    assert sys.path == before


def test_the_built_in_graphs_are_whole() -> None:
    assert Registry(load_project()).check_all() == {"research": None, "approval": None, "digest": None}


def test_broken_json_is_refused_with_line_and_column(tmp_path: Path) -> None:
    assert "line 2 column 12" in refusal(tmp_path, '{\n "graphs": oops}')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "must be a JSON object, not an empty one"),
        ({}, "'graphs' must map"),
        ({"graphs": {}}, "'graphs' must map"),
        ({"graphs": ["./a.py:g"]}, "'graphs' must map"),
        ({"graphs": {"agent": 7}}, "graphs.agent must be"),
        ({"graphs": {"agent": {"description": "no path"}}}, "graphs.agent must be"),
        ({"graphs": {"agent": {"path": "./a.py:g", "description": 7}}}, "graphs.agent.description"),
        ({"graphs": {"agent": "./a.py"}}, "graphs.agent must be"),
        ({"graphs": {"agent": "./a.py:"}}, "graphs.agent must be"),
        ({"graphs": {"agent": "no-module:graph"}}, "graphs.agent must be"),
        ({"graphs": {" ": "./a.py:g"}}, "empty graph id"),
        ({"graphs": AGENT, "auth": "./auth.py:auth"}, "'auth' must be an object, not text"),
        ({"graphs": AGENT, "dependencies": "."}, "'dependencies' must be a list"),
        ({"graphs": AGENT, "dependencies": ["./nowhere"]}, "nowhere"),
        ({"graphs": AGENT, "env": ["A"]}, "'env' must be an object"),
        ({"graphs": AGENT, "env": {"A": ["x"]}}, "env.A must be text or a number"),
        ({"graphs": AGENT, "env": ".env.none"}, ".env.none"),
    ],
)
def test_a_wrong_file_is_refused_by_naming_the_key(tmp_path: Path, content: Any, words: str) -> None:
    assert words in refusal(tmp_path, json.dumps(content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphConfigError, match="no such file"):
        load_project(tmp_path / "langgraph.json")


def test_a_refused_file_has_not_changed_the_process(tmp_path: Path) -> None:
    before = list(sys.path)
    refusal(tmp_path, {"graphs": AGENT, "dependencies": ["."], "env": {"RUNYARD_T_REFUSED": ["x"]}})
    refusal(tmp_path, {"graphs": AGENT, "dependencies": ["./nowhere"], "env": {"RUNYARD_T_REFUSED": "x"}})
    assert sys.path == before
    assert "RUNYARD_T_REFUSED" not in os.environ


def test_unknown_keys_are_ignored_and_unsupported_ones_are_warned_about(tmp_path: Path) -> None:
    content = {
        "graphs": {**AGENT, "web": "./src/agent.ts:graph"},
        "surprise": True,
        "ui": {"agent": "./ui.tsx"},
        "encryption": {"path": "./e.py:e"},
        "http": {"app": "./http.py:app", "cors": {"allow_origins": ["*"]}},
        "dockerfile_lines": ["RUN true"],
        "python_version": "3.99",
    }
    project = load_project(project_file(tmp_path, content))
    assert list(project.graphs) == ["agent"]
    for word in ("'web'", "'ui'", "'encryption'", "dockerfile_lines", "3.99"):
        assert any(word in warning for warning in project.warnings), word
    assert not any("surprise" in warning for warning in project.warnings)


def test_sections_are_kept_as_written_and_empty_when_absent(tmp_path: Path) -> None:
    content = {
        "graphs": AGENT,
        "auth": {"path": "./auth.py:auth"},
        "http": {"disable_mcp": True},
        "store": {"ttl": {"default_ttl": 5}},
        "checkpointer": {"ttl": {"strategy": "delete"}},
    }
    project = load_project(project_file(tmp_path, content))
    assert (project.auth, project.http) == ({"path": "./auth.py:auth"}, {"disable_mcp": True})
    assert project.store["ttl"] == {"default_ttl": 5}
    assert project.checkpointer["ttl"] == {"strategy": "delete"}
    assert project.webhooks == {}


def test_env_fills_what_the_process_lacks_and_overwrites_nothing(tmp_path: Path) -> None:
    os.environ["RUNYARD_T_SET"] = "operator"
    env = {"RUNYARD_T_SET": "file", "RUNYARD_T_NEW": "file", "RUNYARD_T_NUMBER": 3, "RUNYARD_T_FLAG": True}
    load_project(project_file(tmp_path, {"graphs": AGENT, "env": env}))
    found = {name: os.environ[name] for name in env}
    assert found == {
        "RUNYARD_T_SET": "operator",
        "RUNYARD_T_NEW": "file",
        "RUNYARD_T_NUMBER": "3",
        "RUNYARD_T_FLAG": "true",
    }


def test_env_may_be_a_dotenv_file_beside_the_project_file(tmp_path: Path) -> None:
    os.environ["RUNYARD_T_SET"] = "operator"
    (tmp_path / ".env").write_text("RUNYARD_T_SET=file\nexport RUNYARD_T_NEW='two words' # why\n")
    load_project(project_file(tmp_path, {"graphs": AGENT, "env": ".env"}))
    assert os.environ["RUNYARD_T_SET"] == "operator"
    assert os.environ["RUNYARD_T_NEW"] == "two words"


def test_local_dependencies_come_first_on_sys_path_absolute_and_once(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    file = project_file(tmp_path, {"graphs": AGENT, "dependencies": [".", "./lib", "./lib/../lib", "langchain"]})
    load_project(file)
    load_project(file)
    folders = [str(tmp_path.resolve()), str(tmp_path.resolve() / "lib")]
    assert sys.path[:2] == folders
    assert [entry for entry in sys.path if entry in folders] == folders


def test_the_project_folder_is_last_on_sys_path_when_it_is_no_dependency(tmp_path: Path) -> None:
    load_project(project_file(tmp_path, {"graphs": AGENT}))
    assert sys.path[-1] == str(tmp_path.resolve())


def test_the_src_folder_of_an_installable_dependency_is_importable_before_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'agent'\n")
    load_project(project_file(tmp_path, {"graphs": AGENT, "dependencies": ["."]}))
    assert sys.path[:2] == [str(tmp_path.resolve()), str(tmp_path.resolve() / "src")]
