"""docs/metrics.md, the dashboards and the alerts speak of metrics that exist, and of all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Histogram

from runyard.app.cli import COMMANDS
from runyard.app.fleet_metrics import GAUGES
from runyard.engine.metrics import TABLE
from runyard.engine.settings import Settings

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


def queries(board: Path) -> list[str]:
    panels: list[dict[str, Any]] = json.loads(board.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def misnamed(query: str) -> list[str]:
    """Metrics that a query names and nobody counts, and labels that its metrics do not have."""
    plain = re.sub(r'"[^"]*"', '""', query)
    named = set(re.findall(r"\b(runyard_\w+|up)\b(?=[{\[)\s]|$)", plain))
    wrong = sorted(named - KNOWN.keys())
    labels = {label for name in named & KNOWN.keys() for label in KNOWN[name]}
    used = {word for part in re.findall(r"{([^}]*)}", plain) for word in re.findall(r"(\w+)\s*[=!]", part)}
    used |= {word.strip() for part in re.findall(r"by \(([^)]*)\)", plain) for word in part.split(",")}
    assert named, f"no metric in {query}"
    return wrong + sorted(used - labels)


def test_there_is_a_dashboard_for_runs_nodes_queues_and_cost() -> None:
    assert [board.stem for board in DASHBOARDS] == ["cost", "nodes", "queues", "runs"]
    assert len({json.loads(board.read_text())["uid"] for board in DASHBOARDS}) == 4


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.stem)
def test_a_dashboard_asks_for_metrics_and_labels_that_exist(board: Path) -> None:
    for query in queries(board):
        assert misnamed(query) == [], query


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_and_labels_that_exist_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert misnamed(rule["expr"]) == []
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description"} <= set(rule["annotations"])
    for command in re.findall(r"`runyard ([\w-]+)", rule["annotations"]["description"]):
        assert command in COMMANDS


def test_every_metric_is_on_a_dashboard() -> None:
    asked = " ".join(query for board in DASHBOARDS for query in queries(board))
    missing = [name for name in (*(metric.name for metric in TABLE), *GAUGES) if name not in asked]
    assert missing == []


def test_a_query_that_is_wrong_is_noticed() -> None:
    assert misnamed('sum by (phase) (rate(runyard_nonsense_total{graph="x"}[5m]))') == [
        "runyard_nonsense_total",
        "graph",
        "phase",
    ]
    assert misnamed('sum by (nod) (runyard_node_attempts_total{grph="x"})') == ["grph", "nod"]


def test_what_is_scraped_is_where_it_is_served() -> None:
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in yaml.safe_load(SCRAPE.read_text())["scrape_configs"]}
    assert jobs["runyard-worker"]["port"] == Settings().metrics_port
    assert jobs["runyard-web"]["port"] == Settings().port
    compose = yaml.safe_load((ROOT / "docker/compose.metrics.yaml").read_text())["services"]
    for name in jobs["runyard-worker"]["names"]:
        assert compose[name]["environment"] == {"RUNYARD_METRICS_HOST": "0.0.0.0"}
        assert "ports" not in compose[name]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_rules_and_configuration(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, timeout=60)
    for query in [query for board in DASHBOARDS for query in queries(board)]:
        asked = query.replace("$__rate_interval", "5m").replace("$graph", ".*")
        rule = {"groups": [{"name": "q", "rules": [{"record": "q", "expr": asked}]}]}
        (tmp_path / "rule.yaml").write_text(yaml.safe_dump(rule))
        checked = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rule.yaml")], timeout=60, check=False)
        assert checked.returncode == 0, query
