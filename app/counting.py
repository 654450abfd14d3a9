"""What a web process counts: requests, and what the engine counts in it."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from flask import Flask, Response, g
from prometheus_client import CollectorRegistry

from runyard.app import here
from runyard.app.fleet_metrics import Fleet
from runyard.app.wiring import Wiring
from runyard.engine import metrics
from runyard.tasks import exporter


def count(app: Flask, wiring: Wiring, *, alone: bool) -> None:
    """Count from now on. Processes of one gunicorn count in a folder of their parent's; ``alone``: this is one."""
    own, folder = CollectorRegistry(), None
    if alone and "gunicorn.arbiter" in sys.modules:
        folder = exporter.shared_folder(os.getppid(), "web")
        exporter.count_in_files(folder)
    else:
        own = exporter.count_in_memory().registry
    fleet = CollectorRegistry()
    wiring.registries = partial(_registries, own, folder, fleet)
    app.before_request(_begin)
    app.after_request(_end)
    fleet.register(Lazily(wiring))


class Lazily(Fleet):
    """The fleet as the store knows it; the store is opened at the first scrape, not before."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    @property
    def _service(self) -> object:  # type: ignore[override]
        return self._wiring.shared_service

    def describe(self) -> list[object]:
        return []  # registering asks for names, which must not wait for a store


def _registries(
    own: CollectorRegistry | None, folder: Path | None, fleet: CollectorRegistry
) -> list[CollectorRegistry]:
    return [own if folder is None else exporter.added_up(folder), fleet]  # type: ignore[list-item]


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response) -> Response:
    asked = here.request()
    route = asked.url_rule.rule if asked.url_rule else "none"
    metrics.inc("runyard_http_requests_total", asked.method, route, str(response.status_code))
    if (began := g.get("began")) is not None:
        metrics.observe("runyard_http_request_seconds", time.monotonic() - began, route)
    return response
