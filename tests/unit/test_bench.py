"""The bench's own arithmetic, and the shape of what it keeps. Nothing is measured here."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "latest.json"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The bench's modules: scripts beside the package, imported from the root."""
    before = list(sys.path)
    sys.path.insert(0, str(ROOT))
    names = ("guarding", "measure", "measures", "observing", "plan", "report", "samples", "table", "workloads")
    yield SimpleNamespace(**{name: importlib.import_module(f"bench.{name}") for name in names})
    sys.path[:] = before


def number(bench: Any, contender: str, measure: str, value: float) -> Any:
    return bench.measure.Number(contender=contender, measure=measure, value=value, count=10)


def some(bench: Any) -> list[Any]:
    return [
        number(bench, "runyard", "chain_runs_s", 120.0),
        number(bench, "inprocess", "chain_runs_s", 400.0),
        number(bench, "celery_chain", "chain_runs_s", 60.0),
        number(bench, "runyard", "idle_result_p50_ms", 20.0),
        number(bench, "inprocess", "idle_result_p50_ms", 4.0),
    ]


def document(bench: Any, numbers: list[Any]) -> dict[str, Any]:
    made: dict[str, Any] = bench.report.document(
        numbers, quick=True, started_at="2026-01-01T00:00:00+00:00", took_s=1.0, machine={"cores": 2},
        versions={"celery": "5.7"}, source={"commit": "abc"}, conditions=["same cores"], failures={},
    )  # fmt: skip
    return made


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (99, 10), (100, 10), (10, 1), (1, 1)])
def test_a_percentile_is_a_value_that_was_measured(bench: Any, percent: float, expected: int) -> None:
    assert bench.measure.percentile(list(range(10, 0, -1)), percent) == expected


def test_a_percentile_of_nothing_is_refused(bench: Any) -> None:
    with pytest.raises(ValueError, match="no values"):
        bench.measure.percentile([], 50)


def test_a_ratio_above_one_is_better_whichever_way_the_measure_counts(bench: Any) -> None:
    more, less = bench.measures.MEASURE["chain_runs_s"], bench.measures.MEASURE["idle_result_p50_ms"]
    assert bench.report.ratio(more, 120, 60) == 2
    assert bench.report.ratio(less, 20, 10) == 0.5
    assert bench.report.ratio(less, 0, 10) is None


def test_ratios_are_made_to_every_base_that_has_the_measure(bench: Any) -> None:
    found = {(r.measure, r.contender, r.to): r.ratio for r in bench.report.ratios(bench.report.grid_of(some(bench)))}
    assert found["chain_runs_s", "runyard", "inprocess"] == 0.3
    assert found["chain_runs_s", "runyard", "celery_chain"] == 2
    assert found["idle_result_p50_ms", "runyard", "inprocess"] == 0.2
    assert not any(contender == to for _, contender, to in found)
    assert ("idle_result_p50_ms", "runyard", "celery_chain") not in found


def test_goals_are_those_of_runyard_with_everything_on_disk(bench: Any) -> None:
    goals = {goal["measure"]: goal for goal in bench.report.goals(bench.report.grid_of(some(bench)))}
    assert set(goals) == {"chain_runs_s", "idle_result_p50_ms"}
    assert not goals["chain_runs_s"]["met"]
    assert goals["chain_runs_s"]["goal"] == 200


def test_every_number_says_its_unit_its_count_and_what_was_durable(bench: Any) -> None:
    for row in document(bench, some(bench))["numbers"]:
        assert set(row) == NUMBER
        assert row["durability"]
        assert row["count"] > 0


def test_results_are_written_whole_and_read_back(bench: Any, tmp_path: Path) -> None:
    made = document(bench, some(bench))
    bench.report.write(tmp_path / "new" / "latest.json", made)
    assert json.loads((tmp_path / "new" / "latest.json").read_text()) == made
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["latest.json"]


NUMBER = {"contender", "measure", "value", "unit", "better", "count", "durability", "detail"}
DOCUMENT = {"schema", "quick", "started_at", "took_s", "source", "machine", "versions", "conditions", "contenders",
            "numbers", "ratios", "goals", "failures"}  # fmt: skip


def test_the_kept_results_have_the_shape_that_is_written_and_are_of_a_full_run(bench: Any) -> None:
    if not RESULTS.exists():
        pytest.skip("no results are kept yet")
    kept = json.loads(RESULTS.read_text())
    assert set(kept) == set(document(bench, [])) == DOCUMENT
    assert not kept["quick"]
    assert kept["failures"] == {}
    assert all(set(row) == NUMBER for row in kept["numbers"])
    assert {row["measure"] for row in kept["numbers"]} == {measure.name for measure in bench.measures.MEASURES}
    assert {row["contender"] for row in kept["numbers"]} == {one.name for one in bench.measures.CONTENDERS}


def test_the_table_shows_every_number_and_fits_a_terminal(bench: Any) -> None:
    text = bench.table.table(bench.report.grid_of(some(bench)))
    for shown in ("120", "400", "60.0", "20.0", "4.00", "fsync always", "2.00 x"):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("only", "contender", "measure", "wanted"),
    [
        ((), "runyard", "chain_runs_s", True),
        (("runyard",), "runyard", "chain_runs_s", True),
        (("runyard",), "runyard_everysec", "chain_runs_s", False),
        (("celery",), "celery_invoke", "fanout_runs_s", True),
        (("celery",), "inprocess", "fanout_runs_s", False),
        (("chain",), "inprocess", "chain_burst_runs_s", True),
        (("chain", "runyard"), "runyard", "fanout_runs_s", False),
        (("recovery_s",), "runyard", "recovery_lost", False),
    ],
)
def test_only_takes_contenders_and_measures(
    bench: Any, only: tuple[str, ...], contender: str, measure: str, wanted: bool
) -> None:
    plan = bench.plan.Plan(only)
    assert plan.wants(bench.measures.CONTENDER[contender], bench.measures.MEASURE[measure]) is wanted


def test_a_word_that_names_nothing_is_told(bench: Any) -> None:
    assert bench.plan.Plan(("runyard", "chian")).unknown() == ["chian"]


def test_every_graph_comes_to_what_is_expected_of_it(bench: Any) -> None:
    for graph in ("chain10",):
        bench.workloads.check(graph, getattr(bench.workloads, graph).invoke(bench.workloads.GIVEN[graph]))
    with pytest.raises(bench.workloads.WrongResult, match="chain10 came to"):
        bench.workloads.check("chain10", {"log": ["n0"]})


def test_a_sample_counts_for_the_innermost_part_it_is_in(bench: Any) -> None:
    site = "/venv/lib/python3.11/site-packages"
    loop = "run_once (/usr/lib/python3.11/asyncio/base_events.py:1)"
    pregel = f"atick ({site}/langgraph/pregel/_runner.py:1)"
    driver = f"send ({site}/redis/asyncio/connection.py:1)"
    shares = bench.samples.by_part([f"{loop};{pregel} 3", f"{loop};{pregel};{driver};{loop} 1", f"{loop} 4"])
    assert shares == {bench.samples.REST: 0.5, "LangGraph": 0.375, "Redis client": 0.125}


def test_what_seeing_costs_is_told_by_turns_that_were_side_by_side(bench: Any) -> None:
    assert bench.observing.costs([9.0, 90.0, 900.0], [10.0, 100.0, 1000.0]) == pytest.approx(10.0)
    on, off = (bench.observing.Side(name, None, None) for name in ("on", "off"))
    for side, rate, cpu in ((on, 90.0, 11.0), (off, 100.0, 10.0)):
        side.rates, side.cpu, side.parts = [rate] * 3, [cpu] * 3, [{"store": 1.0, "web": cpu - 1.0}] * 3
    said = bench.observing.text(on, off)
    assert "throughput: 10.0 % less" in said
    assert "CPU: 10.0 % more: 9.1 % fewer runs" in said


def test_what_guards_cost_is_told_by_counts_and_by_pairs_of_posts(bench: Any) -> None:
    on, off = (
        SimpleNamespace(post_trips=trips, run_trips={10: 10 * trips, 30: 30 * trips}, superstep_trips=trips, post_ms=ms)
        for trips, ms in ((2.0, [3.0, 5.0, 4.0]), (1.0, [2.0, 4.0, 3.5]))
    )
    said = bench.guarding.text(on, off)
    assert "a superstep (worker)                        2.00    1.00    1.00" in said
    assert said.splitlines()[-2].split() == ["median", "over", "pairs", "1.00"]


def test_a_guarded_project_guards_every_node_and_the_other_none(bench: Any) -> None:
    guarded, plain = (bench.guarding.project(guarded=on) for on in (True, False))
    assert guarded["graphs"] == plain["graphs"]
    assert "runyard" not in plain
    policies = guarded["runyard"]["policies"]
    assert {graph: len(nodes) for graph, nodes in policies.items()} == {"chain10a": 10, "chain30a": 30}
    assert all(policy["limit"] and policy["circuit"] for nodes in policies.values() for policy in nodes.values())


# --- growth


@pytest.fixture(scope="module")
def growth(bench: Any) -> Iterator[Any]:
    pytest.importorskip("simpy")
    names = ("alone", "found", "graphs", "paper", "session", "sse", "turns")
    sys.path.insert(0, str(ROOT))
    yield SimpleNamespace(**{name: importlib.import_module(f"bench.growth.{name}") for name in names})
    sys.path.remove(str(ROOT))


#: What a machine with two cores might measure.
CURVES = {
    "nodes": [
        {"x": n, "store": 0.8 + 0.13 * n, "web": 2.3, "workers": 2.5 + 0.6 * n, "client": 0.3, "scripts": 6 + n}
        for n in (1, 3, 10, 30, 100)
    ],
    "clients": [
        {"x": 1, "store": 2.8, "web": 2.4, "workers": 9.2, "runs_s": 52, "p50_ms": 19},
        {"x": 16, "store": 2.1, "web": 2.3, "workers": 8.5, "runs_s": 135, "p50_ms": 115},
    ],
    "workers": [{"x": 1, "runs_s": 105, "p50_ms": 300}, {"x": 2, "runs_s": 135, "p50_ms": 230}],
}


@pytest.mark.parametrize(
    ("better", "value", "met"), [("lower", 9, True), ("lower", 11, False), ("higher", 9, False), ("higher", 11, True)]
)
def test_a_number_says_whether_its_goal_is_met(growth: Any, better: str, value: float, met: bool) -> None:
    number = growth.found.Number(name="n", title="t", value=value, unit="ms", count=1, goal=10, better=better)
    assert number.met is number.as_dict()["met"] is met


def test_what_fails_leaves_what_was_kept_and_is_told(growth: Any, tmp_path: Path, capsys: Any) -> None:
    kept = {"schema": growth.session.SCHEMA, "measures": {"paper": {"numbers": []}}}
    assert not growth.session._measured(kept, "paper", growth.found.QUICK)
    assert kept["measures"] == {"paper": {"numbers": []}}
    assert "the curves were not measured" in capsys.readouterr().err


def test_paper_compares_and_extrapolates_what_was_measured(growth: Any, capsys: Any) -> None:
    measures = {"curves": {"curves": CURVES, "numbers": [{"name": "fsync_ms", "value": 0.16}]}}
    document = {"schema": growth.session.SCHEMA, "measures": measures}
    assert growth.session._measured(document, "paper", replace(growth.found.QUICK, simulated_s=0.4)), (
        capsys.readouterr().err
    )
    made = document["measures"]["paper"]
    numbers = {number["name"]: number["value"] for number in made["numbers"]}
    assert [point["x"] for point in made["curves"]["simulated_clients"]] == [1, 16]
    assert numbers["runs_s_error"] < 30
    assert numbers["one_store_bound_runs_s"] == pytest.approx(1000 / 2.1, rel=0.01)
    assert numbers["target_stores"] * numbers["one_store_planned_runs_s"] >= 10_000
    assert "10,000 runs/s: stores" in growth.session.text(document, ["paper"])


def test_a_word_that_names_no_measure_of_growth_is_told(growth: Any, capsys: Any) -> None:
    options = SimpleNamespace(only=["kept", "kpet"], quick=True, out=None)
    assert growth.session.main(options) == 2
    assert "kpet names no measure of growth" in capsys.readouterr().err


@pytest.mark.parametrize("graph", ["talk", "talk_delta"])
async def test_a_turn_adds_what_was_said_and_an_answer(growth: Any, graph: str) -> None:
    said = {"by": "user", "text": growth.graphs.text(80, 1)}
    state = await getattr(growth.graphs, graph).ainvoke({"messages": [said]})
    messages = state["messages"]
    assert [len(message["text"]) for message in messages] == [80, 400]
    assert messages[1]["turn"] == "1"


def test_what_runs_that_wait_take_with_langgraph_alone_is_measured_in_a_process_of_its_own(growth: Any) -> None:
    assert 10 < growth.alone.kb_each(300) < 200


def test_a_frame_is_an_event_and_a_heartbeat_is_none(growth: Any) -> None:
    event = growth.sse._event(b'event: custom\ndata: {"at": 1}\nid: 1-0')
    assert (event.name, event.json()) == ("custom", {"at": 1})
    assert growth.sse._event(b": heartbeat") is None


def test_the_kept_growth_is_whole_and_of_full_runs(growth: Any) -> None:
    if not growth.session.RESULTS.exists():
        pytest.skip("no growth is kept yet")
    kept = json.loads(growth.session.RESULTS.read_text())
    assert set(kept["measures"]) == set(growth.session.NAMES)
    assert not any(measure["quick"] for measure in kept["measures"].values())
    assert all(measure["conditions"] and measure["numbers"] for measure in kept["measures"].values())


async def test_a_kept_connection_that_the_server_has_closed_is_opened_anew(bench: Any) -> None:
    client, served, gone = importlib.import_module("bench.http_client"), [], asyncio.Queue[None]()

    async def once(reader: Any, writer: Any) -> None:
        served.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.read(1)  # a second request on this connection gets no answer
        writer.close()
        gone.put_nowait(None)

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    connection = client.Connection("127.0.0.1", server.sockets[0].getsockname()[1])
    assert await connection.ask("GET", "/first") == {}
    assert await connection.ask("GET", "/second") == {}
    connection.close()
    for _ in range(2):
        await asyncio.wait_for(gone.get(), 10)
    server.close()
    await server.wait_closed()
    assert [head.split()[1] for head in served] == [b"/first", b"/second"]


def test_the_page_has_the_tables_that_the_kept_growth_makes(bench: Any) -> None:
    pages, page = importlib.import_module("bench.pages"), (ROOT / "docs" / "performance.md").read_text()
    kept = ROOT / "bench" / "results" / "growth.json"
    if not kept.exists():
        pytest.skip("no growth is kept yet")
    assert page.count("<!-- bench:") == len(pages.TABLES)
    assert pages.fill(page, json.loads(kept.read_text())) == page, "make it anew: python bench/plot.py"


def test_a_table_that_nobody_knows_is_told(bench: Any) -> None:
    pages = importlib.import_module("bench.pages")
    with pytest.raises(ValueError, match="bench:grwoth: there is no such table"):
        pages.fill("<!-- bench:grwoth --><!-- /bench:grwoth -->", {"measures": {}})
