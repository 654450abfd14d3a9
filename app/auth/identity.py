"""Who a request is from, once that has been found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask import g, has_request_context

from runyard.engine.service import Visible

ALL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """``name`` tells identities apart in limits and logs; it is no secret and says how the identity was shown."""

    name: str
    #: Empty: the default tenant.
    tenant: str = ""
    scopes: frozenset[str] = frozenset()
    #: What nodes are told of who asked; None when nobody was asked.
    user: dict[str, Any] | None = None
    #: What handlers of the project's Auth object see; None: they are not asked about this identity.
    principal: Any = field(default=None, compare=False)

    def may(self, scope: str) -> bool:
        """Whether a scope was given: itself, all of its resource, or all there are."""
        return bool(self.scopes & {scope, f"{scope.partition(':')[0]}:{ALL}", ALL})


#: Where nobody is asked who they are, which only happens on loopback: everything of the default tenant.
ANYBODY = Identity(name="anybody", scopes=frozenset({ALL}))
#: On routes that are open to all: may do nothing else.
NOBODY = Identity(name="nobody")


def current() -> Identity:
    """Who the current request is from."""
    return g.get("identity", NOBODY) if has_request_context() else NOBODY


def narrow(visible: Visible | None) -> None:
    """From here on the current request sees only threads whose metadata ``visible`` accepts."""
    g.visible = visible
    g.pop("service", None)


def ask(on: str) -> None:
    """Ask handlers about something that a request does besides what its route is for, as ``resource.action``."""
    if authorize := g.get("authorize"):
        authorize(on, {}, {})
