"""docs/metrics.md, the dashboards and the alerts speak of metrics that exist, and of all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Histogram

from runyard.app.fleet_metrics import GAUGES
from runyard.engine.metrics import TABLE

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))
RULES = ROOT / "docker/prometheus/alerts.yaml"
SCRAPE = ROOT / "docker/prometheus/prometheus.yaml"
#: name -> its labels, for everything that a query may name.
KNOWN: dict[str, set[str]] = {}
for _metric in TABLE:
    _endings = ("_bucket", "_count", "_sum") if _metric.kind is Histogram else ("",)
    KNOWN |= {_metric.name + ending: {*_metric.labels, "le", "job", "instance"} for ending in _endings}
KNOWN |= {name: {*labels, "job", "instance"} for name, (labels, _) in GAUGES.items()}
KNOWN |= {"up": {"job", "instance"}}


def metrics_table() -> str:
    rows = ["| metric | labels | what |", "|---|---|---|"]
    return "\n".join(rows + [f"| `{one.name}` | {_labels(one.labels)} | {one.help} |" for one in TABLE])


def gauges_table() -> str:
    rows = ["| metric | labels | what |", "|---|---|---|"]
    return "\n".join(rows + [f"| `{name}` | {_labels(labels)} | {told} |" for name, (labels, told) in GAUGES.items()])


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


@pytest.mark.parametrize(("name", "table"), [("metrics", metrics_table()), ("gauges", gauges_table())])
def test_the_page_lists_exactly_what_is_counted(name: str, table: str) -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    found = re.search(rf"<!-- {name}:[^\n]*-->\n(.*?)\n<!-- /{name} -->", page, re.DOTALL)
    assert found is not None
    assert found[1] == table
