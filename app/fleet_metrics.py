"""What the store knows of the fleet, read when the web is scraped: the same from every web process."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from runyard.engine.service import Service

#: name -> labels and what it says. In docs/metrics.md, by test.
GAUGES: dict[str, tuple[tuple[str, ...], str]] = {
    "runyard_runs": (("phase",), "Runs (and branches) that are not over, by where they stand, and dead letters."),
    "runyard_oldest_seconds": (("phase",), "How long the oldest of them has stood there; 0 when there is none."),
    "runyard_workers": ((), "Worker processes that gave a sign of life within the last five seconds."),
    "runyard_runs_in_hand": ((), "Runs and branches that workers have in hand, by their own account."),
    "runyard_store_up": ((), "1 when the store answered this scrape."),
}


class Fleet(Collector):
    """Gauges of the whole fleet. One round trip for each scrape; only ``runyard_store_up`` when the store is away."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[GaugeMetricFamily]:
        made = {name: GaugeMetricFamily(name, told, labels=labels) for name, (labels, told) in GAUGES.items()}
        try:
            self._read(made)
        except Exception:  # noqa: BLE001 - a scrape must answer with what is known, whatever the store met
            made["runyard_store_up"].add_metric([], 0)
            yield made["runyard_store_up"]
            return
        made["runyard_store_up"].add_metric([], 1)
        yield from made.values()

    def _read(self, made: dict[str, GaugeMetricFamily]) -> None:
        now_ms = time.time() * 1000
        for phase, (count, oldest_ms) in self._service.store_counts().items():
            made["runyard_runs"].add_metric([phase], count)
            made["runyard_oldest_seconds"].add_metric(
                [phase], max(0.0, (now_ms - oldest_ms) / 1000) if oldest_ms else 0
            )
        workers = self._service.workers()
        made["runyard_workers"].add_metric([], len(workers))
        made["runyard_runs_in_hand"].add_metric([], sum(int(facts.get("in_hand") or 0) for facts in workers))
