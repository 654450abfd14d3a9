"""What a web process has: made once by the factory, reached by every view."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from celery import Celery
from flask import current_app, g, has_request_context
from prometheus_client import CollectorRegistry as Collected

from runyard.app import here
from runyard.app.auth import identity
from runyard.app.auth.custom import CustomAuth
from runyard.app.catalog import Catalog
from runyard.app.project_options import ProjectOptions
from runyard.app.relay import Relay
from runyard.engine.api_keys import ApiKeys
from runyard.engine.assistants import Assistants
from runyard.engine.crons import Crons
from runyard.engine.item_index import Index
from runyard.engine.live import Live
from runyard.engine.run import Run, Wake
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.assistants import Assistant
from runyard.engine.store.client import AsyncStore
from runyard.engine.store.meta import open_store
from runyard.engine.webhooks import WebhookPolicy
from runyard.graphs.registry import Project
from runyard.tasks.letters import Letters
from runyard.tasks.settings import celery_settings

SendWakes = Callable[[Sequence[Wake]], None]
NAME = "runyard"
#: As in processes.WEB.
WEB_THREADS = 64
#: While the store is away, streams are silent for so long at a time; then they send a heartbeat.
RELAY_RETRY_S = 2.0


@dataclass
class Wiring:
    settings: Settings
    project: Project
    options: ProjectOptions
    catalog: Catalog
    #: Which webhooks are accepted.
    webhooks: WebhookPolicy
    #: Asks the broker how many messages wait in a queue; None when it does not answer.
    queue_depth: Callable[[str], int | None]
    _service: Service
    relay: Relay
    #: Writes the wake-ups that the store sends itself; None: it does not.
    letters: Letters | None = field(default=None, kw_only=True)
    #: What Prometheus is answered, made for each scrape.
    registries: Callable[[], list[Collected]] = field(default=list, kw_only=True)
    #: Threads that may wait for a moment: the others are there for short requests.
    spare: threading.Semaphore
    #: What items of the long-term store are found by their meaning with; None: they are not.
    index: Index | None = None
    #: The project's own Auth object.
    custom_auth: CustomAuth | None = None
    _opened: bool = False
    _opening: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.catalog.stored = self._stored

    @property
    def assistants(self) -> Assistants:
        """The assistants that clients made."""
        service = self.service
        return Assistants(service.store, service.keys)

    def api_keys(self) -> ApiKeys:
        return ApiKeys(self.shared_service.store, self.shared_service.keys)

    @property
    def crons(self) -> Crons:
        return Crons(self.service, g.get("visible") if has_request_context() else None)

    def _stored(self, assistant_id: str) -> Assistant | None:
        return self.assistants.find(assistant_id)  # only now: there may have been no store when the process started

    @property
    def service(self) -> Service:
        """The engine's service for the tenant of the current request; outside of one, for the default tenant.

        Raises as :attr:`shared_service`.
        """
        if not has_request_context():
            return self.shared_service.of("")
        kept = here.kept()
        if "service" not in kept:
            kept.service = self.shared_service.of(identity.current().tenant, kept.get("visible"))
        return cast(Service, kept.service)

    @property
    def shared_service(self) -> Service:
        """The service of all tenants, its store checked on first use: a web process starts, and recovers, without one.

        Raises StoreUnavailable; ConfigError for a store that was made with other settings.
        """
        if not self._opened:
            with self._opening:
                open_store(self._service.store, self._service.keys)
                self._opened = True
        return self._service

    def warm_up(self) -> None:
        """Do what else the first request would wait for: load each graph, and what writes its wake-up."""
        self.catalog.warm_up()
        if self.letters is not None:
            for known in self.catalog.all():
                self.letters(Wake(run_id="", queue=self.settings.queue, graph_id=known.graph_id, label=known.graph_id))

    def tell_of_cancelled(self, tell: Callable[[Run], None]) -> None:
        """Have ``tell`` told of every run that is cancelled while no worker has it."""
        self._service.on_cancelled = tell


def wired() -> Wiring:
    """The wiring of the app that handles the current request."""
    return cast(Wiring, current_app.extensions[NAME])


def service() -> Service:
    return wired().service


def spare_threads(threads: str | None) -> threading.Semaphore:
    """Half of the web server's threads, whose number is its own setting and not ours; those that wait for a client to
    ask again are a quarter at most (see web_worker)."""
    number = int(threads) if threads and threads.isdecimal() else WEB_THREADS
    return threading.Semaphore(max(1, number // 2))


def make_relay(service: Service) -> Relay:
    """Serves streams and waits from an event loop that has a connection of its own to the store."""

    def connect() -> Live:
        store = AsyncStore.connect(service.settings.redis_url, retry_s=RELAY_RETRY_S, vault=service.keys.vault)
        return Live(store, service.keys, service.watch)

    return Relay(connect)


def make_broker(settings: Settings) -> Celery:
    """A Celery instance of the web's own, which knows no tasks and is nobody's default."""
    return Celery(NAME, config_source=celery_settings(settings), set_as_current=False)


def letters_of(settings: Settings, broker: Celery) -> Letters | None:
    """Wake-ups that the store can send itself, if it is the broker."""
    return Letters(broker) if settings.broker_url in ("", settings.redis_url) else None
