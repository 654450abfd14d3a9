"""The project whose graphs a command speaks of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runyard.app.commands.problem import Problem
from runyard.app.exit_codes import ExitCode
from runyard.graphs.project import FILE_NAME, GraphSpec, Project, load_project

F = TypeVar("F", bound=Callable[..., Any])


def project_option(command: F) -> F:
    """``--project``: the langgraph.json that workers serve."""
    return click.option(
        "--project",
        type=click.Path(path_type=Path),
        envvar="RUNYARD_CONFIG",
        help="The langgraph.json that is served (`up --config`). Default: the example graphs.",
    )(command)


def open_project(path: Path | None) -> Project:
    """Read the project, without importing a graph. Raises GraphConfigError."""
    return load_project(path or None)


def known_graph(project: Project, graph_id: str) -> GraphSpec:
    """Where a graph is said to be. Raises Problem that tells which graphs there are, and of which file."""
    if graph_id in project.graphs:
        return project.graphs[graph_id]
    raise Problem(
        f"GRAPH: no graph {graph_id!r} in {project.root / FILE_NAME}; it has {', '.join(project.graphs) or 'none'}. "
        "For another project name its langgraph.json with --project.",
        ExitCode.NOT_FOUND,
        code="graph_not_found",
    )
