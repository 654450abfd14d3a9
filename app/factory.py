"""The web process: ``gunicorn "runyard.app.factory:create_app()"``."""

from __future__ import annotations

import os
import re
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import NotFound

from runyard.app import cors, custom_routes, docs, errors, ids, tracing
from runyard.app.api import (
    a2a,
    agents,
    assistants,
    circuits,
    commands,
    crons,
    dead_letters,
    mcp,
    metrics,
    partial,
    records,
    runs,
    state,
    stateless,
    store,
    streams,
    system,
    threads,
)
from runyard.app.auth.custom import load_auth
from runyard.app.auth.gate import Gate
from runyard.app.catalog import Catalog
from runyard.app.counting import count
from runyard.app.outbox import Outbox
from runyard.app.place import bound_hosts, may_be_open, refuse_open_host
from runyard.app.project_options import META, ProjectOptions, mounted
from runyard.app.relay import over_relay
from runyard.app.version import VERSION
from runyard.app.wiring import NAME, SendWakes, Wiring, letters_of, make_broker, make_relay, spare_threads
from runyard.engine import redact
from runyard.engine.errors import StoreUnavailable
from runyard.engine.garbage import spare
from runyard.engine.item_index import index_of
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.meta import keys_of
from runyard.engine.webhooks import WebhookPolicy
from runyard.graphs.embedding import load_embeddings
from runyard.graphs.registry import Registry, load_project
from runyard.tasks.observe import observe
from runyard.tasks.tracing import begin
from runyard.tasks.wake import Waker

log = structlog.get_logger(__name__)

RESOURCES = (
    *(system, assistants, threads, state, runs, streams, commands, stateless, crons, store),
    *(agents, mcp, a2a),
    *(partial, dead_letters, records, circuits, metrics),
)
#: A client waits for an answer while the store is away: not for long, since it will try again.
STORE_RETRY_S, STORE_TIMEOUT_S = 1.5, 2.0
_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}")


class App(Flask):
    """Flask, without looking at each function of each request again for whether it is a coroutine: none of ours is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Settings | None = None, *, wake: SendWakes | None = None) -> Flask:
    """A web application on the store and the project that ``settings`` (by default the environment) name.

    Starts without a store, and refuses to start on a store of other settings (ConfigError) or a project file that
    cannot be used (GraphConfigError). ``wake`` is how wake-ups are sent; by default through the broker.
    """
    alone = settings is None
    if settings is None:
        settings = Settings.from_env(os.environ)
        observe(settings)  # a process of its own; who hands in settings looks after its log itself
    wiring = wire_up(settings, wake)
    # Flask cannot find the place of a package inside a namespace by itself; nothing is kept there.
    app = App("runyard.app", static_folder=None, instance_path=str(Path(__file__).resolve().parent))
    app.extensions[NAME] = wiring
    app.config.update(_flask_config(wiring.settings))
    if wiring.settings.metrics == "on":
        count(app, wiring, alone=alone)
    tracing.register(app, traced := begin(wiring.settings, "runyard-web"))
    if traced:
        wiring.tell_of_cancelled(traced.cancelled)
    app.before_request(_name_request)
    if wiring.options.hides_meta:
        app.before_request(_hide_meta)
    app.after_request(_return_name)
    cors.register(app, cors.Cors.from_config(wiring.project.http.get("cors") or {}))
    errors.register(app)
    _add_resources(app, wiring.options.left_out)
    custom_routes.register(app, wiring.project.http, wiring.project.root)
    app.wsgi_app = over_relay(mounted(app.wsgi_app, wiring.options.prefix))  # type: ignore[method-assign]
    _close(app, wiring)
    _begin(wiring, alone=alone)
    return app


def wire_up(settings: Settings, wake: SendWakes | None = None) -> Wiring:
    """Make what a web process has. Nothing is connected yet."""
    project = load_project(Path(settings.config) if settings.config else None)
    redact.learn(os.environ, settings.redact_names)
    broker = make_broker(settings)
    waker, letters = Waker(broker), letters_of(settings, broker) if wake is None else None
    keys = keys_of(settings)
    store = SyncStore.connect(settings.redis_url, retry_s=STORE_RETRY_S, timeout_s=STORE_TIMEOUT_S, vault=keys.vault)
    service = Service(store, keys, settings, wake or Outbox(waker), letters)
    catalog = Catalog(Registry(project), settings.config)
    depth: Callable[[str], int | None] = waker.queue_depth if wake is None else lambda _: 0
    return Wiring(
        settings,
        project,
        ProjectOptions.of(project),
        catalog,
        WebhookPolicy.of(project.webhooks, settings, os.environ),
        depth,
        service,
        make_relay(service),
        spare_threads(os.environ.get("RUNYARD_WEB_THREADS")),
        index_of(project.store, load_embeddings(project)),
        letters=letters,
    )


def _close(app: Flask, wiring: Wiring) -> None:
    """Ask clients who they are, or refuse to listen where others can reach us."""
    wiring.custom_auth = load_auth(wiring.project.auth, wiring.project.root)
    gate = Gate(wiring.settings, wiring.api_keys, wiring.custom_auth)
    if gate.is_open:
        for host in (wiring.settings.host, *bound_hosts(sys.argv)):
            refuse_open_host(host)
        if may_be_open():
            log.warning("auth.off", detail="RUNYARD_ALLOW_OPEN=1: whoever reaches the API may do everything.")
    gate.register(app)


def _begin(wiring: Wiring, *, alone: bool) -> None:
    for warning in (*wiring.project.warnings, *wiring.options.warnings):
        log.warning("project.warning", detail=warning)
    try:
        wiring.shared_service  # noqa: B018 - opens the store, to refuse a wrong one before the first request does
    except StoreUnavailable as error:
        log.warning("store.away", detail=f"{error} Requests are answered 503 until it is back.")
    threading.Thread(target=_warm_up, args=(wiring, alone), name="warm-up", daemon=True).start()


def _warm_up(wiring: Wiring, alone: bool) -> None:
    wiring.warm_up()
    if alone:
        spare()


def _flask_config(settings: Settings) -> dict[str, Any]:
    return {
        "MAX_CONTENT_LENGTH": settings.max_body_bytes,
        "API_TITLE": "Runyard",
        "API_VERSION": VERSION,
        "OPENAPI_VERSION": "3.1.0",
    }


def _add_resources(app: Flask, left_out: frozenset[str]) -> None:
    api = docs.DocumentedApi(app)
    ids.register(app, api)
    for resource in RESOURCES:
        if resource.blueprint.name not in left_out:
            api.register_blueprint(resource.blueprint)
    docs.register(app, api)


def _hide_meta() -> None:
    if request.path in META:
        raise NotFound


def _name_request() -> None:
    """The client's name for its request, or one of ours: it is in the answer and in the log."""
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def _return_name(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id") or uuid.uuid4().hex
    return response
