"""The text files a graph may read, and no others.

Whoever can start a run chooses the input, so a folder in the input is not trusted: it must lie inside what the operator
opened. `RUNYARD_DOCS` is the folder read by default and, unless `RUNYARD_DOCS_ROOT` opens a larger one, the only one.
Without either it is the `README.md` and the `docs` folder of the current project. Hidden files, links that lead out,
and anything but prose and Python are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from runyard.graphs.inputs import BadInput

PROSE = frozenset({".md", ".mdx", ".markdown", ".rst", ".adoc", ".txt"})
SUFFIXES = PROSE | {".py"}
NOT_TEXT = frozenset({"node_modules", "__pycache__", "site-packages"})
MAX_FILE_BYTES = 512 * 1024
MAX_FILES = 2_000
MAX_BYTES = 16 * 1024 * 1024

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Document:
    """One file: `name` is its path inside the library, as an answer quotes it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Library:
    """Some places to read from; names are relative to `root`. `left_out` are files and folders that cannot be
    read and are not looked at; `only` is the one that is looked at."""

    root: Path
    places: tuple[Path, ...]
    left_out: frozenset[str] = frozenset()
    only: str | None = None

    def names(self, suffixes: Collection[str] = SUFFIXES) -> list[str]:
        """The files that can be read, sorted. Raises BadInput when there are none, or more than one run should read;
        OSError for a folder that cannot be looked into."""
        everything = {file for place in self.places for file in self._walk(place, _raise)}
        found = sorted(file for file in everything if self._is_meant(file) and self._is_readable(file, suffixes))
        size = sum(file.stat().st_size for file in found)
        if not found:
            unread = f", and {', '.join(sorted(self.left_out)[:5])} cannot be read" if self.left_out else ""
            raise BadInput("docs", f"there is no text file to read in {self}{unread}")
        if len(found) > MAX_FILES or size > MAX_BYTES:
            limits = f"at most {MAX_FILES} files and {MAX_BYTES // 2**20} MB are read: name a smaller folder"
            raise BadInput("docs", f"{self} has {len(found)} files of {size // 2**20} MB; {limits}")
        return [file.relative_to(self.root).as_posix() for file in found]

    def broken(self) -> list[str]:
        """The files and folders that cannot be read, sorted: the disk or their permissions do not allow it."""
        failed: list[OSError] = []
        for file in {file for place in self.places for file in self._walk(place, failed.append)}:
            try:
                if self._is_readable(file, SUFFIXES):
                    with file.open("rb") as opened:
                        opened.read(1)
            except OSError as error:
                failed.append(OSError(error.errno, error.strerror, str(file)))
        return sorted({Path(str(error.filename)).relative_to(self.root).as_posix() for error in failed})

    def read(self, name: str) -> Document:
        """A file by its name, which may come from a state that a client wrote. What is not UTF-8 is replaced."""
        file = self.root / name
        if not (all(map(_is_open, Path(name).parts)) and self._is_readable(file, SUFFIXES)):
            raise BadInput("docs", f"there is no text file {name!r} to read in {self}")
        return Document(name, file.read_text(encoding="utf-8", errors="replace"))

    def documents(self) -> Iterator[Document]:
        """Every file's text, in the order of `names`."""
        return map(self.read, self.names())

    def _walk(self, place: Path, failed: Callable[[OSError], None]) -> Iterator[Path]:
        if self._name(place) in self.left_out:
            return
        if place.is_file():
            yield place
            return
        for folder, names, files in os.walk(place, onerror=failed):
            names[:] = [
                name for name in names if _is_open(name) and self._name(Path(folder, name)) not in self.left_out
            ]
            yield from (Path(folder, name) for name in files if _is_open(name))

    def _is_meant(self, file: Path) -> bool:
        return self._name(file) not in self.left_out and (
            self.only is None or file.is_relative_to(self.root / self.only)
        )

    def _name(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()

    def _is_readable(self, file: Path, suffixes: Collection[str]) -> bool:
        inside = any(file.resolve().is_relative_to(place) for place in self.places)
        return inside and file.suffix.lower() in suffixes and file.is_file() and file.stat().st_size <= MAX_FILE_BYTES

    def __str__(self) -> str:
        return " and ".join(str(place) for place in self.places)


def open_library(docs: object = None) -> Library:
    """The library of a run: the `docs` folder of its input, else the operator's. Raises BadInput."""
    standard = _standard()
    if docs is None:
        return standard
    if not isinstance(docs, str) or not docs.strip() or "\0" in docs:
        raise BadInput("docs", f"must be the path of a folder, not {docs!r}")
    folder = (standard.root / docs).resolve()
    # Inside comes before exists: an answer must not tell what lies outside.
    if not any(folder.is_relative_to(place) for place in _allowed(standard)):
        raise BadInput("docs", f"{docs!r} is outside of what this server may read (RUNYARD_DOCS_ROOT)")
    if not folder.is_dir():
        raise BadInput("docs", f"there is no folder {docs!r}")
    return Library(folder, (folder,))


def _standard() -> Library:
    if named := os.environ.get("RUNYARD_DOCS"):
        folder = Path(named).resolve()
        if not folder.is_dir():
            raise BadInput("docs", f"RUNYARD_DOCS names a folder that does not exist: {named}")
        return Library(folder, (folder,))
    for root in (Path.cwd(), CHECKOUT):
        if places := [place.resolve() for place in (root / "README.md", root / "docs") if place.exists()]:
            return Library(root.resolve(), tuple(places))
    return Library(Path.cwd(), ((Path.cwd() / "docs"),))


def _allowed(standard: Library) -> tuple[Path, ...]:
    opened = os.environ.get("RUNYARD_DOCS_ROOT")
    return (Path(opened).resolve(),) if opened else standard.places


def _raise(error: OSError) -> None:
    raise error


def _is_open(name: str) -> bool:
    return not name.startswith(".") and name not in NOT_TEXT
