"""The wheel holds every file of the four folders: the list in setup.cfg is written by hand."""

from __future__ import annotations

import configparser
import fnmatch
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("app", "tasks", "graphs", "engine")
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
PACKAGES = CONFIG["options"]["packages"].split()
DATA = {package: patterns.split() for package, patterns in CONFIG["options.package_data"].items()}


def files() -> list[Path]:
    return [
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def is_packaged(path: Path) -> bool:
    package = ".".join(["runyard", *path.parent.parts])
    if path.suffix == ".py":
        return package in PACKAGES
    return any(fnmatch.fnmatch(name, pattern) for name, pattern in _candidates(path))


def _candidates(path: Path) -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(Path(*parents))), pattern)
        for package, patterns in DATA.items()
        if path.is_relative_to(Path(*(parents := package.split(".")[1:])))
        for pattern in patterns
    ]


def test_every_file_is_in_the_wheel() -> None:
    assert [str(path) for path in files() if not is_packaged(path)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_of_the_list_exists(package: str) -> None:
    assert (ROOT / Path(*package.split(".")[1:]) / "__init__.py").is_file()


def test_every_locked_version_is_exact_and_names_no_place() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=str.lower)
    assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in lines)


def test_make_help_names_every_target_that_has_a_sentence() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "up", "test", "check", "bench", "chaos", "clean"):
        assert f"make {target} " in shown
