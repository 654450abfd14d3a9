"""Every route says what it needs; what scopes there are, and what they allow."""

from __future__ import annotations

import pytest
from flask import Flask

from runyard.app.auth.identity import ANYBODY, NOBODY, Identity
from runyard.app.auth.scopes import OPEN, SCOPES, checked, declared, needs
from runyard.app.factory import _add_resources
from runyard.engine.errors import InvalidInput

#: What an anonymous client may ask for; nothing of it tells anything about a tenant.
ANONYMOUS = {
    *("system.ok", "system.ok_1", "system.info", "system.version", "system.healthz", "system.readyz"),
    *("openapi", "docs"),
}


#: What LangGraph's server has, too: there handlers of an Auth object must be asked.
THEIRS = ("assistants", "threads", "runs", "crons", "store")
#: These start runs, and ask about that where the run is made; an A2A request asks once it is known what it is about,
#: and there is no session of MCP to end.
STARTING = {
    *("runs.create", "streams.wait", "streams.stream", "a2a.message", "mcp.end"),
    *(f"stateless runs.{name}" for name in ("create", "create_batch", "wait", "stream")),
}


@pytest.fixture(scope="module")
def app() -> Flask:
    made = Flask("scopes", static_folder=None)
    made.config.update(API_TITLE="t", API_VERSION="1", OPENAPI_VERSION="3.1.0")
    _add_resources(made, frozenset())
    return made


@pytest.fixture(scope="module")
def scopes(app: Flask) -> dict[str, str | None]:
    return declared(app)


def test_handlers_are_asked_about_every_route_that_langgraphs_server_has_too(app: Flask) -> None:
    views = app.view_functions.items()
    theirs = {name: view for name, view in views if str(getattr(view, "scope", "")).partition(":")[0] in THEIRS}
    unasked = {name for name, view in theirs.items() if not getattr(view, "on", ())}
    assert unasked == STARTING, "name in @needs what handlers are asked about: @needs('runs:read', 'threads.read')"


def test_every_route_declares_the_scope_it_needs(scopes: dict[str, str | None]) -> None:
    silent = sorted(endpoint for endpoint, scope in scopes.items() if scope is None)
    assert not silent, f"put @needs('…') of app/auth/scopes.py above these views: {silent}"


def test_only_these_routes_are_open_to_all(scopes: dict[str, str | None]) -> None:
    assert {endpoint for endpoint, scope in scopes.items() if scope == OPEN} == ANONYMOUS


def test_a_scope_that_there_is_not_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="runs:wirte"):
        needs("runs:wirte")


@pytest.mark.parametrize(
    ("given", "may", "may_not"),
    [
        ({"runs:write"}, ["runs:write"], ["runs:read", "store:read"]),
        ({"runs:*"}, ["runs:write", "runs:read"], ["threads:read"]),
        ({"*"}, list(SCOPES), []),
        (set(), [], list(SCOPES)),
    ],
)
def test_an_identity_may_what_its_scopes_say(given: set[str], may: list[str], may_not: list[str]) -> None:
    who = Identity(name="x", scopes=frozenset(given))
    assert all(who.may(scope) for scope in may)
    assert not any(who.may(scope) for scope in may_not)


def test_where_nobody_is_asked_anybody_may_everything_and_nobody_may_nothing() -> None:
    assert all(ANYBODY.may(scope) and not NOBODY.may(scope) for scope in SCOPES)


@pytest.mark.parametrize("given", [[], ["runs"], ["runs:admin"], ["nope:*"], ["runs:read", "**"]])
def test_scopes_that_mean_nothing_are_refused(given: list[str]) -> None:
    with pytest.raises(InvalidInput, match="scopes"):
        checked(given)
