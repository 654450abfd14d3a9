"""The gate: what every request passes before its view. Who asks, and whether they may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from flask import Flask, Request, g

from runyard.app import here
from runyard.app.auth.api_keys import KeyCheck
from runyard.app.auth.custom import CustomAuth
from runyard.app.auth.handlers import authorize
from runyard.app.auth.identity import ANYBODY, NOBODY, Identity
from runyard.app.auth.rates import path_of, rates_of
from runyard.app.auth.scopes import KNOWN, OPEN, declared
from runyard.app.auth.tokens import TokenCheck
from runyard.app.errors import Forbidden, NotAuthenticated
from runyard.app.place import may_be_open, refuse_open_host
from runyard.engine.api_keys import PREFIX, ApiKeys
from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings

log = structlog.get_logger(__name__)

#: Longer than any token an issuer makes, and shorter than what web servers take as a header.
MAX_CREDENTIAL = 8192

Identify = Callable[[Request], Identity]


class Gate:
    """One for each process."""

    def __init__(self, settings: Settings, keys: Callable[[], ApiKeys], custom: CustomAuth | None = None) -> None:
        """Raises ConfigError for ways that exclude each other."""
        ways = settings.auth_ways
        self._authenticates = custom is not None and custom.identifies
        if self._authenticates and "jwt" in ways:
            raise ConfigError(
                "RUNYARD_AUTH names jwt, and the Auth object of langgraph.json authenticates: choose one."
            )
        self._custom, self._settings = custom, settings
        self._token_check = TokenCheck(settings) if "jwt" in ways else None
        self._key_check = KeyCheck(keys, keep_s=settings.auth_cache_s) if "keys" in ways else None
        self._may_be_open = may_be_open()
        self.is_open = not ways and not self._authenticates

    def register(self, app: Flask) -> None:
        """Stand before every view of ``app``, whose routes are all known by now. Raises ConfigError."""
        self._scopes = declared(app)
        app.before_request(self._pass)
        self._rates = rates_of(self._settings, app)
        if self._rates:
            self._rates.register(app)

    def _pass(self) -> None:
        asked = here.request()
        if asked.endpoint is None or asked.method == "OPTIONS":
            return  # there is no such route, or a browser asks before it sends credentials
        scope = self._scopes.get(asked.endpoint)
        if scope == OPEN:
            g.identity = NOBODY
            return
        who = self._anybody(asked) if self.is_open else self._identify(asked)
        g.identity = who
        if scope is None and not self.is_open:  # fails closed
            log.error("route.without_scope", endpoint=asked.endpoint)
            raise Forbidden("Forbidden")
        if scope not in (None, KNOWN) and not who.may(scope):
            raise Forbidden(f"This needs the scope {scope!r}, which {who.name} does not have.")
        if self._rates and asked.url_rule:
            self._rates.take(who, scope or "", f"{asked.method} {path_of(asked.url_rule.rule)}")
        if self._custom is not None:
            g.authorize = authorize

    def _anybody(self, asked: Request) -> Identity:
        """Whoever reaches the server, as long as only this machine does. Whatever started it, and on what address."""
        if not self._may_be_open:
            refuse_remote(asked.environ)
        return ANYBODY

    def _identify(self, given: Request) -> Identity:
        text = credential(given)
        if self._key_check is not None and text.startswith(PREFIX):
            return self._key_check.identify(text)
        if self._authenticates and self._custom is not None:
            return self._custom.identify(given)
        if not text:
            raise NotAuthenticated(f"Say who you are: send {self._accepted()}.")
        if self._token_check is not None and not text.startswith(PREFIX):
            return self._token_check.identify(text)
        raise NotAuthenticated("The API key is not valid.")

    def _accepted(self) -> str:
        key = "an API key as X-Api-Key or as Authorization: Bearer" if self._key_check else ""
        token = "a token as Authorization: Bearer" if self._token_check else ""
        return ", or ".join(filter(None, (key, token)))


def credential(given: Request) -> str:
    """What a request shows of itself: a bearer token, an API key, or nothing. Raises NotAuthenticated.

    Both at once are no contradiction: LangGraph's SDKs add any X-Api-Key that they find in their environment. Then the
    bearer counts, which somebody has set on purpose; but two different keys of ours are one too many.
    """
    authorization = given.headers.get("Authorization", "")
    key = given.headers.get("X-Api-Key", "").strip()
    scheme, _, bearer = authorization.strip().partition(" ")
    bearer = bearer.strip() if scheme.lower() == "bearer" else ""
    if max(len(authorization), len(key)) > MAX_CREDENTIAL:
        raise NotAuthenticated("The credentials are longer than any that are known here.")
    if bearer.startswith(PREFIX) and key.startswith(PREFIX) and bearer != key:
        raise NotAuthenticated("Authorization and X-Api-Key hold two different keys; send one.")
    return bearer or key


def refuse_remote(environ: dict[str, Any]) -> None:
    """Raises Forbidden on a server that listens where others can reach it and asks nobody who they are."""
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    try:
        address = connection.getsockname() if connection is not None else None
    except OSError:
        return  # the client has gone
    if isinstance(address, tuple):
        refuse_open_host(str(address[0]).removeprefix("::ffff:"), error=Forbidden)
