"""What a key may be allowed to do, and how a route says what it needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from flask import Flask, g

from runyard.app.auth.identity import ALL
from runyard.engine.errors import InvalidInput

F = TypeVar("F", bound=Callable[..., Any])

#: docs/security.md shows the same list, by test.
SCOPES = {
    "assistants:read": "See assistants, their graphs and schemas.",
    "assistants:write": "Make, change and delete assistants.",
    "threads:read": "See threads, their state, their history and what they tell.",
    "threads:write": "Make, change, copy, prune and delete threads, and edit their state.",
    "runs:read": "See runs, wait for them and follow what they tell.",
    "runs:write": "Start, cancel and delete runs.",
    "crons:read": "See crons.",
    "crons:write": "Make, change and delete crons.",
    "store:read": "Read and search the long-term store.",
    "store:write": "Write to the long-term store.",
    "dead-letters:read": "See dead letters, with inputs, state and tracebacks.",
    "dead-letters:admin": "Replay, repair and discard dead letters.",
    "circuits:read": "See the circuits of the fleet, which all tenants share.",
    "circuits:admin": "Force circuits open or closed, for all tenants.",
    "metrics:read": "Scrape the web's metrics, which name graphs and nodes of all tenants.",
}
#: For routes that ask nobody who they are.
OPEN = "open"
#: For routes that anybody may use who has said who they are.
KNOWN = "known"


def needs(scope: str, *on: str) -> Callable[[F], F]:
    """Declare the scope that a view needs; ``OPEN`` or ``KNOWN`` for none. Stands right above the view's function.

    ``on`` is what handlers of the project's Auth object are asked about before the view, as ``resource.action``: what
    they change in its body or query is changed for the view, and what they filter out does not exist for it.

    A route without a declaration answers nobody while somebody is asked who they are.
    """
    if scope not in (OPEN, KNOWN) and scope not in SCOPES:
        raise ValueError(f"There is no scope {scope!r}; if it is new, say in app/auth/scopes.py what it allows.")

    def mark(view: F) -> F:
        @functools.wraps(view)
        def guarded(*given: Any, **path: Any) -> Any:
            if on and (authorize := g.get("authorize")):
                for each in on:
                    authorize(each, given[0] if given else {}, path)
            return view(*given, **path)

        guarded.scope, guarded.on = scope, on  # type: ignore[attr-defined]  # carried through decorators by functools.wraps
        return cast(F, guarded)

    return mark


def declared(app: Flask) -> dict[str, str | None]:
    """The scope of each endpoint; None where nothing is declared."""
    return {name: getattr(view, "scope", None) for name, view in app.view_functions.items()}


def checked(scopes: Iterable[str]) -> tuple[str, ...]:
    """Scopes as they were given. Raises InvalidInput for one that there is not."""
    resources = {f"{name.partition(':')[0]}:{ALL}" for name in SCOPES}
    given = tuple(dict.fromkeys(scopes))
    if unknown := [scope for scope in given if scope not in SCOPES and scope not in resources and scope != ALL]:
        raise InvalidInput(
            f"scopes: there is no {unknown[0][:60]!r}; there are {', '.join(SCOPES)}, and {ALL} for all."
        )
    if not given:
        raise InvalidInput(f"scopes: name at least one of {', '.join(SCOPES)}, or {ALL} for all.")
    return given
