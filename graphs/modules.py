"""Importing a user's code without getting in its way, or letting it get in ours.

A file is loaded under a module name of its own, made from its path inside the project: the same on every machine and
after every deploy, because checkpoints remember the module a value's class came from. A file that belongs to a package
is imported as part of that package, so relative imports work. A file is loaded once, however many graphs are in it.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "runyard_user_graph_"

# A module that is still executing is already in sys.modules: without this, a second thread would find it half made.
_loading = threading.RLock()


def is_file(path: str) -> bool:
    """Whether a location is a file's path rather than a module's dotted name."""
    return "/" in path or "\\" in path or Path(path).suffix in {".py", ".ts", ".js", ".mjs", ".cjs", ".mts", ".cts"}


def put_on_path(folders: Sequence[Path], *, last: Path) -> None:
    """Put folders at the front of `sys.path`, in order, and `last` at its end when it is not there yet.

    First place lets a project have packages called `app` or `tasks` whatever the current folder holds. A `src` folder
    of an installable project comes along, so that it works before it was installed.
    """
    wanted = list(dict.fromkeys(str(path) for folder in folders for path in (folder, *_source_layout(folder))))
    sys.path[:] = wanted + [entry for entry in sys.path if entry not in wanted]
    if str(last) not in sys.path:
        sys.path.append(str(last))
    importlib.invalidate_caches()


def _source_layout(folder: Path) -> list[Path]:
    installable = any((folder / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    return [folder / "src"] if installable and (folder / "src").is_dir() else []


def load_object(path: str, attribute: str, root: Path) -> Any:
    """The attribute (dots allowed) of a file, relative to `root`, or of a module by its dotted name.

    Raises whatever the user's code raises, FileNotFoundError or AttributeError.
    """
    value: Any = load_file((root / path).resolve(), root) if is_file(path) else importlib.import_module(path)
    for name in attribute.split("."):
        value = _attribute(value, name)
    return value


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError as error:
        near = difflib.get_close_matches(name, dir(owner), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"there is no {name!r} in it{hint}") from error


def load_file(file: Path, root: Path) -> ModuleType:
    """Import one file, once per process."""
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    with _loading:
        if not (file.parent / "__init__.py").is_file():
            return _load_alone(file, root)
        return _load_in_package(file, root)


def _load_alone(file: Path, root: Path) -> ModuleType:
    name = _module_name(file, root)
    return sys.modules.get(name) or _execute(name, file)


def _load_in_package(file: Path, root: Path) -> ModuleType:
    top = _top_package(file.parent)
    inside = ".".join(file.relative_to(top).with_suffix("").parts)
    package = top.name if _is_importable(top) else _adopt(top, root)
    return importlib.import_module(package if inside == "__init__" else f"{package}.{inside.removesuffix('.__init__')}")


def _top_package(folder: Path) -> Path:
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _is_importable(package: Path) -> bool:
    """Whether importing the package by its plain name finds this folder and not something else of that name."""
    if str(package.parent) not in sys.path or not package.name.isidentifier():
        return False
    try:
        found = importlib.util.find_spec(package.name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None and Path(found.origin).resolve() == package / "__init__.py"


def _adopt(package: Path, root: Path) -> str:
    """Import a package that cannot be reached by its own name under a name of ours: its relative imports still work."""
    name = _module_name(package, root)
    if name not in sys.modules:
        _execute(name, package / "__init__.py", [str(package)])
    return name


def _execute(name: str, file: Path, package_path: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=package_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"not a Python file: {file}")
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and get_type_hints look the module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _module_name(path: Path, root: Path) -> str:
    """A name from the place inside the project; a second project in the same process gets names of its own."""
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    name = PREFIX + _digest(inside)
    taken = sys.modules.get(name)
    if taken is None or _is_from(taken, path):
        return name
    return f"{PREFIX}{_digest(str(path))}"


def _is_from(module: ModuleType, path: Path) -> bool:
    file = Path(module.__file__ or "").resolve()
    return file in {path, path / "__init__.py"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
