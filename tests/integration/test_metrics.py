"""What Prometheus gets: from a worker, from the web, from processes that share a folder, and from the dead."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.types import RetryPolicy
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runyard.engine import metrics
from runyard.engine.errors import LeaseLost
from runyard.engine.ledger_metrics import take_record
from runyard.engine.metrics import MOST_VALUES, OTHER, TABLE, Metrics
from runyard.engine.prices import Prices
from runyard.engine.run import Phase
from runyard.engine.settings import Settings
from runyard.engine.store import runs
from runyard.tasks import exporter
from tests.integration.test_ledger import State, chain, model
from tests.support.engine import engine
from tests.support.web import Web


@pytest.fixture
def counted() -> Iterator[Metrics]:
    made = Metrics()
    metrics.install(made)
    yield made
    metrics.install(None)


def test_what_several_threads_count_is_added_up_whenever_somebody_looks() -> None:
    made = Metrics()
    total = "runyard_store_round_trips_total"
    with ThreadPoolExecutor(4) as threads:
        counted = [threads.submit(lambda: [made.take(total, (), 1.0) for _ in range(2500)]) for _ in range(4)]
        while not all(one.done() for one in counted):
            made.registry.get_sample_value(total)
    assert made.registry.get_sample_value(total) == 10_000
    made.take("runyard_run_seconds", ("graph",), 0.2)
    assert made.registry.get_sample_value("runyard_run_seconds_count", {"graph": "graph"}) == 1
    made.take(total, (), 1.0)
    [only] = made.registry.restricted_registry([total]).collect()
    assert [sample.value for sample in only.samples if sample.name == total] == [10_001]


def samples(text: str) -> dict[str, float]:
    """``name{label="value"}`` -> value, of everything that is not zero."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.value and not sample.name.endswith(("_created", "_bucket")):
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def of(made: Metrics) -> dict[str, float]:
    return samples(generate_latest(made.registry).decode())


@tool
def look_up(word: str) -> str:
    """Find a word."""
    return word


async def test_a_run_is_counted_by_what_happened_in_it(redis_url: str, counted: Metrics) -> None:
    left = [1]

    def work(_: State) -> State:
        look_up.invoke({"word": "x"})
        model().invoke("hi")
        if left:
            left.pop()
            raise ConnectionError
        return {}

    retried = RetryPolicy(max_attempts=2, initial_interval=0, jitter=False)
    graph = chain(work={"node": work, "retry_policy": retried}).compile()
    async with engine(redis_url, {"g": graph}) as eng:
        eng.worker.sinks, eng.worker.prices = (take_record,), Prices({"small-1": {"in": 1, "out": 2}})
        run = await eng.run("g", {"out": []})
        assert run.phase is Phase.SUCCEEDED
    found = of(counted)
    assert found["runyard_node_attempts_total{graph=g,node=work,status=error}"] == 1
    assert found["runyard_node_attempts_total{graph=g,node=work,status=ok}"] == 1
    assert found["runyard_node_retries_total{graph=g,node=work}"] == 1
    assert found["runyard_node_attempt_seconds_count{graph=g,node=work}"] == 2
    assert found["runyard_tool_calls_total{status=ok,tool=look_up}"] == 2
    assert found["runyard_model_calls_total{model=small-1,status=ok}"] == 2
    assert found["runyard_tokens_total{direction=in,graph=g,model=small-1}"] == 2000
    assert found["runyard_cost_total{graph=g,model=small-1}"] == pytest.approx(0.004)
    assert found["runyard_slices_total{graph=g,outcome=finished}"] == 1
    assert found["runyard_run_ends_total{graph=g,phase=succeeded}"] == 1
    assert found["runyard_run_seconds_count{graph=g}"] == 1
    assert found["runyard_wakeup_seconds_count{queue=default}"] == 1
    assert 0 < found["runyard_store_round_trips_total"] <= found["runyard_store_calls_total"]


async def test_an_sla_is_watched_without_a_circuit(redis_url: str, counted: Metrics) -> None:
    async def slow(_: State) -> State:
        await asyncio.sleep(0.02)
        return {"out": [1]}

    graph = chain(slow={"node": slow, "metadata": {"runyard": {"sla_ms": 5}}}).compile()
    async with engine(redis_url, {"g": graph}) as eng:
        await eng.run("g", {"out": []})
    assert of(counted)["runyard_node_sla_breaches_total{graph=g,node=slow}"] == 1


async def test_leases_that_are_recovered_and_writes_that_are_refused_are_counted(
    redis_url: str, counted: Metrics
) -> None:
    async with engine(redis_url, {"g": chain(a=lambda _: {}).compile()}) as eng:
        run = eng.start("g", {"out": []})
        claimed = eng.sync_store.do(_claim(eng, run.run_id))
        eng.sync_store.client.zadd(eng.keys.of_run(run.run_id).leases, {run.run_id: 1})
        eng.recovery.sweep()
        await eng.drive()
        with pytest.raises(LeaseLost):
            eng.sync_store.do(runs.give_back(eng.keys, run.run_id, claimed.fence))
    found = of(counted)
    assert found["runyard_leases_recovered_total"] == 1
    assert found["runyard_fenced_writes_total"] == 1


def _claim(eng: Any, run_id: str) -> Any:
    return runs.claim(eng.keys, run_id, owner="dies", nonce="n", lease_ms=60_000)


def test_values_of_a_label_are_bounded() -> None:
    made = Metrics()
    metrics.install(made)
    for number in range(3 * MOST_VALUES):
        metrics.inc("runyard_tool_calls_total", f"tool{number}", "ok")
    metrics.install(None)
    found = of(made)
    assert len(found) == MOST_VALUES + 1
    assert found[f"runyard_tool_calls_total{{status=ok,tool={OTHER}}}"] == 2 * MOST_VALUES


def test_without_metrics_counting_does_nothing() -> None:
    metrics.install(None)
    metrics.inc("runyard_fenced_writes_total")
    metrics.observe("runyard_run_seconds", 1.0, "g")


def test_the_web_answers_with_its_requests_and_the_fleets_runs(redis_url: str, tmp_path: Path) -> None:
    web = Web(redis_url, tmp_path)
    web.run(web.thread())
    found = samples(web.call("GET", "/metrics").text)
    metrics.install(None)
    assert found["runyard_runs{phase=waiting}"] == 1
    assert found["runyard_oldest_seconds{phase=waiting}"] > 0
    assert found["runyard_store_up"] == 1
    assert found["runyard_http_requests_total{method=POST,route=/threads,status=200}"] == 1
    off = Web(redis_url, tmp_path, metrics="off")
    assert samples(off.call("GET", "/metrics").text) == {}


def test_the_web_is_scraped_without_a_store(redis_url: str, tmp_path: Path) -> None:
    web = Web("redis://127.0.0.1:1/0", tmp_path)
    answer = web.call("GET", "/metrics")
    metrics.install(None)
    assert answer.status_code == 200
    assert "runyard_store_up 0.0" in answer.text
    assert "runyard_runs{" not in answer.text


COUNTING = """
import sys
from pathlib import Path
from runyard.engine import metrics
from runyard.tasks import exporter
exporter.count_in_files(Path(sys.argv[1]))
metrics.inc("runyard_run_ends_total", "g", "failed")
metrics.observe("runyard_run_seconds", 2.0, "g")
"""


def test_what_dead_processes_counted_stays_and_their_files_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "counts"
    folder.mkdir()
    for _ in range(3):
        subprocess.run([sys.executable, "-c", COUNTING, str(folder)], check=True, timeout=60)
    before = sorted(file.name for file in folder.glob("*.db"))
    assert len(before) == 6
    for _ in range(2):  # scraped again, the same
        found = samples(generate_latest(exporter.added_up(folder)).decode())
        assert found["runyard_run_ends_total{graph=g,phase=failed}"] == 3
        assert found["runyard_run_seconds_count{graph=g}"] == 3
        assert found["runyard_run_seconds_sum{graph=g}"] == 6
    assert sorted(file.name for file in folder.glob("*.db")) == ["counter_0.db", "histogram_0.db"]


def test_a_folder_is_ours_alone_and_those_of_the_dead_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(60)
    old = exporter.shared_folder(dead.pid, "web")
    mine = exporter.shared_folder(1, "web")
    assert not old.exists()
    assert mine.stat().st_mode & 0o777 == 0o700
    mine.chmod(0o755)
    with pytest.raises(PermissionError):
        exporter.shared_folder(1, "web")


def test_processes_of_one_machine_are_scraped_at_a_port_each() -> None:
    settings = Settings.from_env({}, metrics_port=19464)
    ports = [exporter.serve(settings, Metrics().registry) for _ in range(2)]
    assert None not in ports
    assert len(set(ports)) == 2
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"runyard_leases_recovered_total" in answer.read()


def test_every_metric_of_the_table_is_counted_somewhere() -> None:
    root = Path(__file__).parents[2]
    code = "".join(path.read_text() for part in ("engine", "app", "tasks") for path in (root / part).rglob("*.py"))
    for metric in TABLE:
        assert re.search(rf'(?:inc|observe)\(\s*"{metric.name}"', code), f"nobody counts {metric.name}"
    named = set(re.findall(r'(?:inc|observe)\(\s*"(runyard_\w+)"', code))
    assert named == {metric.name for metric in TABLE}
