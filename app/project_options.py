"""What a project's langgraph.json says about how it is served: the sections ``http`` and ``checkpointer``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from runyard.engine.store.threads import TtlStrategy
from runyard.graphs.errors import GraphConfigError
from runyard.graphs.project import FILE_NAME, Project

#: What ``http.disable_<name>`` leaves out: resources by the names of their blueprints.
PARTS: dict[str, tuple[str, ...]] = {
    "assistants": ("assistants", "agents"),
    "threads": ("threads", "state", "thread streams"),
    "runs": ("runs", "streams", "stateless runs", "crons"),
    "store": ("store",),
    "mcp": ("mcp",),
    "a2a": ("a2a",),
}
#: Nothing of these is served here, so there is nothing to leave out.
_NOT_SERVED = ("ui", "webhooks")
#: What ``http.disable_meta`` leaves out, besides looking at the store in /ok.
META = frozenset({"/info", "/version", "/metrics", "/docs", "/openapi.json"})
_PREFIX = re.compile(r"(/[\w.~-]+)+")
#: What no node is given: a run's record would keep it.
_CREDENTIALS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
_TEN_YEARS_MIN = 10 * 366 * 1440

_PROBES = frozenset({"/ok", "/healthz", "/readyz"})

Json = dict[str, Any]
Wsgi = Callable[..., Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """Which of a request's headers nodes find in ``config["configurable"]``; names may hold ``*``. None by default."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def chosen(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        if not self.includes:
            return {}
        return {name.lower(): value for name, value in headers if self._takes(name.lower())}

    def _takes(self, name: str) -> bool:
        return name not in _CREDENTIALS and _matches(name, self.includes) and not _matches(name, self.excludes)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class ProjectOptions:
    """``prefix``: under which path everything is; ``left_out``: blueprints that are not served; ``thread_ttl``: minutes
    and strategy for threads that name none."""

    prefix: str = ""
    left_out: frozenset[str] = frozenset()
    headers: HeaderRules = HeaderRules()
    thread_ttl: tuple[float, TtlStrategy] | None = None
    #: Whether the server tells nothing about itself but that it answers.
    hides_meta: bool = False

    @property
    def warnings(self) -> list[str]:
        refused = ", ".join(sorted(_CREDENTIALS.intersection(self.headers.includes)))
        told = f"'http.configurable_headers': {refused} is left out, since the records of runs would keep it"
        return [told] if refused else []

    @classmethod
    def of(cls, project: Project) -> ProjectOptions:
        """Raises GraphConfigError that names the key and what it accepts."""
        reader = _Reader(str(project.root / FILE_NAME))
        return cls(
            prefix=reader.prefix(project.http),
            left_out=reader.left_out(project.http),
            headers=reader.headers(project.http),
            thread_ttl=reader.thread_ttl(project.checkpointer),
            hides_meta=project.http.get("disable_meta") is True,
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    source: str

    def _refuse(self, key: str, accepted: str, given: Any) -> GraphConfigError:
        return GraphConfigError(self.source, f"{key} must be {accepted}, not {str(given)[:60]!r}")

    def prefix(self, http: Json) -> str:
        given = http.get("mount_prefix") or ""
        if not isinstance(given, str) or (given and not _PREFIX.fullmatch(given.rstrip("/"))):
            raise self._refuse("http.mount_prefix", 'a path such as "/agents"', given)
        return given.rstrip("/")

    def left_out(self, http: Json) -> frozenset[str]:
        names = [name.removeprefix("disable_") for name in http if name.startswith("disable_")]
        for name in names:
            if name not in (known := (*PARTS, "meta", *_NOT_SERVED)):
                raise self._refuse("http.disable_…", f"one of {', '.join(known)}", name)
            if not isinstance(http[f"disable_{name}"], bool):
                raise self._refuse(f"http.disable_{name}", "true or false", http[f"disable_{name}"])
        return frozenset(part for name in names if http[f"disable_{name}"] for part in PARTS.get(name, ()))

    def headers(self, http: Json) -> HeaderRules:
        given = http.get("configurable_headers") or {}
        if not isinstance(given, dict):
            raise self._refuse("http.configurable_headers", 'an object {"includes": […], "excludes": […]}', given)
        return HeaderRules(self._names(given, "includes"), self._names(given, "excludes"))

    def _names(self, given: Mapping[str, Any], key: str) -> tuple[str, ...]:
        names = given.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._refuse(f"http.configurable_headers.{key}", "a list of header names", names)
        return tuple(name.lower() for name in names)

    def thread_ttl(self, checkpointer: Json) -> tuple[float, TtlStrategy] | None:
        given = checkpointer.get("ttl")
        if given is None:
            return None
        minutes, strategy = (
            (given.get("default_ttl"), given.get("strategy") or "delete") if isinstance(given, dict) else (0, "")
        )
        if strategy not in ("delete", "keep_latest"):
            raise self._refuse("checkpointer.ttl.strategy", '"delete" or "keep_latest"', strategy)
        if minutes is None:
            return None
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= _TEN_YEARS_MIN:
            raise self._refuse("checkpointer.ttl.default_ttl", "a number of minutes", minutes)
        return float(minutes), cast(TtlStrategy, strategy)


def mounted(app: Wsgi, prefix: str) -> Wsgi:
    """A WSGI application under a path of its own. Probes find ``/ok``, ``/healthz``, ``/readyz`` at the root, too."""
    if not prefix:
        return app

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == prefix or path.startswith(f"{prefix}/"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
            environ["PATH_INFO"] = path[len(prefix) :] or "/"
        elif path not in _PROBES:
            environ["PATH_INFO"] = f"/ outside of {prefix}"  # nothing is there, and the usual 404 says so

        def start(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            # Where to come back to is a path of the server. Content-Location is not touched: clients read ids from it.
            placed = [(k, prefix + v if k.lower() == "location" and v.startswith("/") else v) for k, v in headers]
            return start_response(status, placed, *failure)

        return app(environ, start)

    return serve
