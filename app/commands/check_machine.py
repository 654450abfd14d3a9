"""``runyard doctor``: what can be told without a store. Python, LangGraph, SQLite, the graphs, the ports."""

from __future__ import annotations

import http.client
import os
import sqlite3
import sys
from collections.abc import Iterator
from importlib.metadata import metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from runyard.app.commands.check import Finding, fail, ok, warn
from runyard.app.place import Place, PortInUse, free_port
from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings
from runyard.engine.webhooks import WebhookPolicy
from runyard.graphs.embedding import load_embeddings
from runyard.graphs.errors import GraphConfigError
from runyard.graphs.project import Project, load_project
from runyard.graphs.registry import Registry

FLOWER_PORT = 5555


def check_python() -> Finding:
    running = "{}.{}.{}".format(*sys.version_info)
    wanted = metadata("runyard")["Requires-Python"] or ""
    if SpecifierSet(wanted).contains(running):
        return ok("python", running)
    return fail("python", f"{running}; Runyard is made for {wanted}", "Make the environment with such a Python.")


def check_langgraph() -> Finding:
    """The engine touches private parts of LangGraph, so the minor version it was verified with matters."""
    installed = version("langgraph")
    wanted = next(r.specifier for r in map(Requirement, requires("runyard") or []) if r.name == "langgraph")
    if wanted.contains(installed, prereleases=True):
        return ok("langgraph", f"{installed}, verified with {wanted}")
    todo = f"pip install 'langgraph{wanted}'"
    return fail("langgraph", f"{installed} is not a version Runyard was verified with ({wanted})", todo)


def check_sqlite() -> Finding:
    try:
        with sqlite3.connect(":memory:") as database:
            database.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
    except sqlite3.OperationalError as problem:
        said = f"SQLite {sqlite3.sqlite_version} has no FTS5 ({problem}); the research example ranks with it"
        return warn("sqlite", said, "Use a Python whose SQLite has FTS5 (python.org's, Debian's and Homebrew's do).")
    return ok("sqlite", f"{sqlite3.sqlite_version} with FTS5")


def check_graphs(project: Path | None) -> Iterator[Finding]:
    """One finding for each graph, in the order of the file, and one for each thing of it that is ignored."""
    try:
        opened = load_project(project)
    except GraphConfigError as problem:
        yield fail("graphs", str(problem), "Correct the file, or name another: RUNYARD_CONFIG or --project.")
        return
    for graph_id, broken in Registry(opened).check_all().items():
        if broken is None:
            yield ok(f"graph {graph_id}", "loads")
        else:
            yield fail(f"graph {graph_id}", str(broken), "Its runs fail until this is mended; the other graphs work.")
    for warning in opened.warnings:
        yield warn("project", warning, "Nothing, if that is what you mean.")
    if opened.webhooks:
        yield _check_webhooks(opened)
    if opened.store.get("index"):
        yield _check_embedding(opened)


def _check_embedding(project: Project) -> Finding:
    try:
        load_embeddings(project)
    except GraphConfigError as problem:
        return fail("embedding", str(problem), "Correct the file, or install what it needs; nothing starts so.")
    return ok("embedding", f"{project.store['index']['embed']} loads")


def _check_webhooks(project: Project) -> Finding:
    try:
        WebhookPolicy.of(project.webhooks, Settings(), os.environ)
    except ConfigError as problem:
        return fail("webhooks", str(problem), "Correct it in the project file, or set the variable; nothing starts so.")
    return ok("webhooks", "what the project says of them is valid")


def check_ports(settings: Settings) -> Iterator[Finding]:
    yield _check_port("web port", settings.host, settings.port, "/ok", "RUNYARD_PORT or `runyard up --port`")
    yield _check_port(
        "flower port", "127.0.0.1", FLOWER_PORT, "/healthcheck", "FLOWER_PORT or `runyard up --flower-port`"
    )


def _check_port(check: str, host: str, port: int, path: str, option: str) -> Finding:
    place = Place(host=host, port=port, flower_port=port, redis_url="", data=None)
    try:
        free_port(host, port)
    except PortInUse:
        if _answers(place.reached_at, port, path):
            return ok(check, f"{place.url} answers")
        said = f"{port} on {host} is used by another program"
        return warn(check, said, f"Stop that, or choose another: {option}.")
    except ConfigError as problem:
        return fail(check, str(problem), f"Choose another: {option}.")
    return ok(check, f"{port} on {host} is free; nothing runs there")


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
