"""The project's own ``langgraph_sdk.Auth`` object: its authenticator, and its handlers for each resource and action."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from flask import Request
from langgraph_sdk import Auth
from langgraph_sdk.auth.types import AuthContext, StudioUser

from runyard.app.auth.asgi import AsgiRequest
from runyard.app.auth.filters import Filter
from runyard.app.auth.identity import Identity
from runyard.app.auth.scopes import SCOPES
from runyard.app.errors import Forbidden, HandlerRefused, NotAuthenticated
from runyard.engine.errors import ConfigError, InvalidInput
from runyard.engine.tenancy import shown, stored
from runyard.graphs.loops import LoopThread
from runyard.graphs.registry import load_object

log = structlog.get_logger(__name__)

#: How long a handler may take. A client waits for it, and a thread of the web process with it.
TIMEOUT_S = 30.0
#: What LangGraph's server has, too: there its handlers decide. For all else a user's permissions must name the scope.
_THEIRS = frozenset(
    scope for scope in SCOPES if scope.partition(":")[0] in ("assistants", "threads", "runs", "crons", "store")
)


class CustomAuth:
    """One for each process. Handlers run on an event loop of their own, so that clients they keep belong to one."""

    def __init__(self, auth: Auth) -> None:
        self._auth, self._loop = auth, LoopThread("auth")
        self._authenticator: Callable[..., Any] | None = auth._authenticate_handler  # noqa: SLF001 - the SDK promises its servers these three
        self._wanted = _wanted_by(self._authenticator) if self._authenticator else ()

    @property
    def identifies(self) -> bool:
        return self._authenticator is not None

    def identify(self, given: Request) -> Identity:
        """Ask the authenticator. Raises NotAuthenticated, or HandlerRefused with what the authenticator raised."""
        authenticator = self._authenticator
        if authenticator is None:
            raise NotAuthenticated
        try:
            user = self._run(authenticator, **{name: _FACTS[name](given) for name in self._wanted})
        except AssertionError as error:
            raise NotAuthenticated(str(error) or "Unauthorized") from None
        if user is None:
            raise NotAuthenticated("Unauthorized")
        return _identity(user)

    def authorize(self, who: Identity, resource: str, action: str, value: dict[str, Any]) -> Filter | None:
        """Ask the most specific handler, which may change ``value``; answers a filter, or None for everything.

        Raises Forbidden, or HandlerRefused with what the handler raised.
        """
        handler = self._handler(resource, action)
        if handler is None:
            return None
        user = who.principal or User(who.user or {"identity": who.name})
        context = AuthContext(permissions=list(user.permissions), user=user, resource=resource, action=action)  # type: ignore[arg-type]
        said = self._run(handler, ctx=context, value=value)
        if said is None or said is True:
            return None
        if isinstance(said, Mapping):
            return dict(said)
        raise Forbidden("Forbidden")

    def _handler(self, resource: str, action: str) -> Callable[..., Any] | None:
        auth = self._auth
        for place in ((resource, action), (resource, "*"), ("*", action)):
            if found := auth._handlers.get(place):  # noqa: SLF001 - as above
                return found[-1]
        return auth._global_handlers[-1] if auth._global_handlers else None  # noqa: SLF001 - as above

    def _run(self, handler: Callable[..., Any], **arguments: Any) -> Any:
        async def carry_out() -> Any:
            said = handler(**arguments)
            return await said if inspect.isawaitable(said) else said

        try:
            return self._loop.run(carry_out(), timeout_s=TIMEOUT_S)
        except Exception as error:
            status = getattr(error, "status_code", None)  # the SDK's exception, or a web framework's like it
            if status is None and isinstance(error, ValueError):  # what it read from the client is no such thing
                log.warning("auth.unreadable", exc_info=error)
                raise HandlerRefused("The request could not be read by the server's authentication.", 400, {}) from None
            if not isinstance(status, int):
                raise
            headers = getattr(error, "headers", None) or {}
            raise HandlerRefused(str(getattr(error, "detail", "") or error), status, dict(headers)) from None


class User(Mapping[str, Any]):
    """A user as handlers see it: by attributes, and by keys like the dict it may have been."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = {"is_authenticated": True, "display_name": facts["identity"], "permissions": [], **facts}

    def __getitem__(self, key: str) -> Any:
        return self._facts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_facts"][name]
        except KeyError:
            raise AttributeError(name) from None


def load_auth(section: Mapping[str, Any], root: Path) -> CustomAuth | None:
    """The Auth object that the section ``auth`` of langgraph.json names; None when it names none. Raises ConfigError.

    ``disable_studio_auth`` is taken and changes nothing: no header lets anybody pass here.
    """
    location = section.get("path")
    if location is None:
        return None
    path, _, attribute = str(location).rpartition(":")
    if not path or not attribute:
        raise ConfigError(f'langgraph.json: auth.path must be "./file.py:object", not {location!r}.')
    try:
        found = load_object(path, attribute, root)
    except Exception as error:  # whatever a user's module raises while it is imported; without it nobody may be let in
        raise ConfigError(
            f"langgraph.json: auth.path {location!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, Auth):
        raise ConfigError(f"langgraph.json: auth.path {location!r} is not a langgraph_sdk.Auth object.")
    return CustomAuth(found)


def _wanted_by(authenticator: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(authenticator).parameters.values()
    named = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    unknown = [each.name for each in named if each.name not in _FACTS and each.default is each.empty]
    if unknown:
        known = ", ".join(sorted(_FACTS))
        raise ConfigError(f"The authenticator takes {unknown[0]!r}, which no server gives; it may take {known}.")
    return tuple(each.name for each in named if each.name in _FACTS)


#: What an authenticator may ask for, by name. Nothing is read that it does not ask for.
_FACTS: dict[str, Callable[[Request], Any]] = {
    "request": AsgiRequest,
    "body": lambda given: given.get_json(silent=True) if given.is_json else None,
    "user": lambda _: None,
    "scopes": lambda _: [],
    "path": lambda given: given.path,
    "method": lambda given: given.method,
    "path_params": lambda given: dict(given.view_args or {}),
    "query_params": lambda given: given.args.to_dict(),
    "headers": lambda given: {
        name.lower().encode(): value.encode("latin-1", "replace") for name, value in given.headers
    },
    "authorization": lambda given: given.headers.get("Authorization"),
}


def _identity(user: Any) -> Identity:
    facts = _as_facts(user)
    if not isinstance(facts.get("identity"), str) or not facts["identity"]:
        raise NotAuthenticated("Unauthorized")
    principal = user if isinstance(user, StudioUser) else User(facts)
    permissions = [each for each in principal.permissions if isinstance(each, str)]
    said = facts.get("tenant")
    try:
        tenant = stored(said) if isinstance(said, str) else ""
    except InvalidInput as error:
        raise NotAuthenticated(str(error)) from None
    told = {**dict(User(facts)), "permissions": permissions, "tenant": shown(tenant)}
    scopes = _THEIRS | {each for each in permissions if each in SCOPES}
    return Identity(
        name=f"user:{facts['identity'][:200]}", tenant=tenant, scopes=scopes, user=told, principal=principal
    )


def _as_facts(user: Any) -> dict[str, Any]:
    """A user in any of the forms that authenticators return."""
    if isinstance(user, str):
        return {"identity": user}
    if isinstance(user, Mapping):
        return dict(user)
    if hasattr(user, "model_dump"):
        return dict(user.model_dump())
    names = ("identity", "display_name", "permissions", "is_authenticated", "tenant")
    known = {name: getattr(user, name) for name in names if hasattr(user, name)}
    return {**{key: value for key, value in getattr(user, "__dict__", {}).items() if key[:1] != "_"}, **known}
