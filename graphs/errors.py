"""What can be wrong with a project or with one of its graphs.

GraphsError
  ├ GraphConfigError   langgraph.json cannot be used as it is written
  ├ UnknownGraph       the project has no graph of that id
  └ GraphBroken        one graph cannot be loaded; the others still can
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path

LOADER_FILES = {"registry.py", "modules.py", "factories.py"}


class GraphsError(Exception):
    """Base of everything this package raises about projects and graphs."""


class GraphConfigError(GraphsError):
    """A project file that cannot be used as it is written: names the file and what to write instead."""

    def __init__(self, source: Path | str, problem: str) -> None:
        super().__init__(str(source), problem)
        self.source, self.problem = str(source), problem

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}"


class UnknownGraph(GraphsError, LookupError):
    """The project has no graph of that id."""

    def __init__(self, graph_id: str, known: Iterable[str]) -> None:
        self.graph_id, self.known = graph_id, sorted(known)
        super().__init__(graph_id, self.known)

    def __str__(self) -> str:
        return f"no graph {self.graph_id!r} in this project; it has {', '.join(self.known) or 'none'}"


class GraphBroken(GraphsError):
    """One graph that cannot be loaded. `cause` is the exception that was met, also chained as `__cause__`."""

    def __init__(self, graph_id: str, file: str, attribute: str, cause: BaseException) -> None:
        super().__init__(graph_id, file, attribute, cause)
        self.graph_id, self.file, self.attribute, self.cause = graph_id, file, attribute, cause

    def __str__(self) -> str:
        where = _line_of(self.cause)
        reason = f"{type(self.cause).__name__}: {self.cause}{f' (at {where})' if where else ''}"
        return f"graph {self.graph_id!r} ({self.file}:{self.attribute}) is broken: {reason}"


def _line_of(cause: BaseException) -> str | None:
    """The last line of the user's own code that the exception went through: libraries and this loader are no help."""
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if _is_users(frame.filename)]
    return f"{own[-1].filename} line {own[-1].lineno}" if own else None


def _is_users(filename: str) -> bool:
    path = Path(filename)
    ours = path.parent == Path(__file__).parent and path.name in LOADER_FILES
    return not (ours or filename.startswith("<") or "site-packages" in path.parts or _is_standard_library(path))


def _is_standard_library(path: Path) -> bool:
    return path.is_relative_to(Path(traceback.__file__).parent)
