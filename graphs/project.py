"""A project: what `langgraph.json` says, checked and made ready to load graphs from.

The file is LangGraph's own, so a project that runs on another LangGraph server runs here unchanged. Keys nobody here
understands are ignored; keys that mean something elsewhere and nothing here are named in `Project.warnings`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from runyard.graphs.errors import GraphConfigError
from runyard.graphs.modules import is_file, put_on_path

FILE_NAME = "langgraph.json"
BUILT_IN = Path(__file__).with_name(FILE_NAME)
NODE_SUFFIXES = (".ts", ".mts", ".cts", ".js", ".mjs", ".cjs", ".tsx", ".jsx")
#: The longest vectors of any provider are a tenth of it.
MAX_DIMS = 65_536
SECTIONS = ("auth", "http", "store", "checkpointer", "webhooks", "runyard")
UNSUPPORTED = {
    "ui": "UI components are not served",
    "ui_config": "UI components are not served",
    "encryption": "state is not encrypted by this key",
    "priority": "runs have no priority by this key",
}
IMAGE_KEYS = (
    *("api_version", "base_image", "dockerfile_lines", "image_distro"),
    *("keep_pkg_tools", "pip_config_file", "pip_installer"),
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """Where one graph is: `path` is "./file.py" (from the project's root) or "package.module"."""

    id: str
    path: str
    attribute: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A checked `langgraph.json`. The sections are as written, `{}` when absent; `root` is the file's folder."""

    root: Path
    graphs: dict[str, GraphSpec]
    warnings: list[str] = field(default_factory=list)
    auth: Json = field(default_factory=dict)
    http: Json = field(default_factory=dict)
    store: Json = field(default_factory=dict)
    checkpointer: Json = field(default_factory=dict)
    webhooks: Json = field(default_factory=dict)
    runyard: Json = field(default_factory=dict)


def load_project(path: Path | None = None) -> Project:
    """Read a project file, or the folder it is in; without a path, the built-in project of example graphs.

    Changes the process: local `dependencies` go to the front of `sys.path` and `env` fills what `os.environ` lacks.
    No graph is imported: one that cannot be loaded is found by the registry and not here. Raises GraphConfigError.
    """
    source = _locate(path)
    raw = _read(source)
    root = source.parent
    graphs, warnings = _graphs(source, raw.get("graphs"))
    sections = {name: _section(source, raw, name) for name in SECTIONS}
    _check_index(source, sections["store"].get("index"))
    project = Project(root=root, graphs=graphs, warnings=warnings + _warnings(raw), **sections)
    env, folders = _env(source, raw.get("env")), _dependencies(source, raw.get("dependencies"))
    _apply_env(env)
    if path is not None:
        put_on_path(folders, last=root)
    return project


def _locate(path: Path | None) -> Path:
    if path is None:
        return BUILT_IN
    source = Path(path).resolve()
    source = source / FILE_NAME if source.is_dir() else source
    if not source.is_file():
        raise GraphConfigError(source, "no such file")
    return source


def _read(source: Path) -> Json:
    try:
        raw = json.loads(source.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise GraphConfigError(
            source, f"not valid JSON at line {error.lineno} column {error.colno}: {error.msg}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise GraphConfigError(source, f"cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise GraphConfigError(source, f"must be a JSON object, not {_kind(raw)}")
    return raw


def _graphs(source: Path, value: object) -> tuple[dict[str, GraphSpec], list[str]]:
    if not isinstance(value, dict) or not value:
        raise GraphConfigError(source, f"'graphs' must map a graph id to \"./file.py:attribute\", not {_kind(value)}")
    specs = [_spec(source, graph_id, entry) for graph_id, entry in value.items()]
    node = [spec for spec in specs if spec.path.endswith(NODE_SUFFIXES)]
    warnings = [f"graph {spec.id!r} is skipped: {spec.path} is not Python" for spec in node]
    return {spec.id: spec for spec in specs if spec not in node}, warnings


def _spec(source: Path, graph_id: str, entry: object) -> GraphSpec:
    location = entry.get("path") if isinstance(entry, dict) else entry
    description = entry.get("description") if isinstance(entry, dict) else None
    if not graph_id.strip():
        raise GraphConfigError(source, "'graphs' has an empty graph id")
    if not isinstance(location, str):
        raise GraphConfigError(
            source, f'graphs.{graph_id} must be "./file.py:attribute" or {{"path": …}}, not {_kind(location)}'
        )
    if not isinstance(description, str | None):
        raise GraphConfigError(source, f"graphs.{graph_id}.description must be text, not {_kind(description)}")
    return GraphSpec(graph_id, *_split(source, graph_id, location), description)


def _split(source: Path, graph_id: str, location: str) -> tuple[str, str]:
    path, _, attribute = location.rpartition(":")
    names = attribute.split(".")
    module_is_named = is_file(path) or all(part.isidentifier() for part in path.split("."))
    if not path or not module_is_named or not all(name.isidentifier() for name in names):
        wanted = '"./file.py:attribute" or "package.module:attribute"'
        raise GraphConfigError(source, f"graphs.{graph_id} must be {wanted}, not {location!r}")
    return path, attribute


def _section(source: Path, raw: Json, name: str) -> Json:
    value = raw.get(name)
    if not isinstance(value, dict | None):
        raise GraphConfigError(source, f"{name!r} must be an object, not {_kind(value)}")
    return value or {}


def _check_index(source: Path, index: object) -> None:
    """Whether ``store.index`` says what is needed; what ``embed`` names is loaded by those who embed."""
    if index is None:
        return
    if not isinstance(index, dict):
        raise GraphConfigError(source, f"store.index must be an object, not {_kind(index)}")
    dims, embed, fields = index.get("dims"), index.get("embed"), index.get("fields")
    if isinstance(dims, bool) or not isinstance(dims, int) or not 0 < dims <= MAX_DIMS:
        raise GraphConfigError(source, f"store.index.dims must be a whole number from 1 to {MAX_DIMS}, not {dims!r}")
    if not isinstance(embed, str) or not all(embed.strip().rpartition(":")):
        wanted = '"provider:model", "./file.py:attribute" or "package.module:attribute"'
        raise GraphConfigError(source, f"store.index.embed must be {wanted}, not {embed!r}")
    given = [] if fields is None else fields
    if not isinstance(given, list) or fields == [] or not all(isinstance(path, str) and path for path in given):
        raise GraphConfigError(source, f'store.index.fields must be a list of paths such as ["$"], not {fields!r}')


def _warnings(raw: Json) -> list[str]:
    found = [f"{key!r} is ignored: {why}" for key, why in UNSUPPORTED.items() if raw.get(key)]
    image = [key for key in IMAGE_KEYS if raw.get(key)]
    if image:
        found.append(f"{', '.join(image)}: ignored, they matter only when an image is built")
    wanted, running = str(raw.get("python_version") or ""), "{}.{}".format(*sys.version_info)
    if wanted and wanted != running:
        found.append(f"'python_version' asks for {wanted}, this is Python {running}")
    return found


def _dependencies(source: Path, value: object) -> list[Path]:
    """The local folders among the dependencies; package names are the installer's business."""
    if not isinstance(value, list | None) or not all(isinstance(entry, str) for entry in value or []):
        raise GraphConfigError(source, f"'dependencies' must be a list of text, not {_kind(value)}")
    folders = [(source.parent / entry).resolve() for entry in value or [] if _is_local(entry)]
    for folder in folders:
        if not folder.is_dir():
            raise GraphConfigError(source, f"'dependencies' names a folder that does not exist: {folder}")
    return folders


def _is_local(dependency: str) -> bool:
    return dependency.startswith(".") or Path(dependency).is_absolute()


def _env(source: Path, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        file = source.parent / value
        if not file.is_file():
            raise GraphConfigError(source, f"'env' names a file that does not exist: {file}")
        return {name: text for name, text in dotenv_values(file).items() if text is not None}
    if not isinstance(value, dict):
        raise GraphConfigError(source, f"'env' must be an object or the path of a .env file, not {_kind(value)}")
    return {name: _env_text(source, name, given) for name, given in value.items()}


def _env_text(source: Path, name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    raise GraphConfigError(source, f"env.{name} must be text or a number, not {_kind(value)}")


def _apply_env(env: dict[str, str]) -> None:
    # What the operator set in the process wins over what is in the repository.
    for name, value in env.items():
        os.environ.setdefault(name, value)


def _kind(value: object) -> str:
    """JSON's word for a value: people who write this file think in JSON, not in Python."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list) and not value:
        return "an empty one"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
