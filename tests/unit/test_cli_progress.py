"""What a person is told of a run, from its events."""

from __future__ import annotations

from typing import Any

from runyard.app.commands.progress import Progress, Row, instant_of, label, words


def start(task: str, node: str) -> tuple[str, dict[str, Any]]:
    return "tasks", {"id": task, "name": node, "input": {}, "triggers": [f"branch:to:{node}"]}


def end(task: str, node: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "tasks", {"id": task, "name": node, "error": None, "result": {}, "interrupts": [], **more}


def told(*events: tuple[str, Any], deciding: set[str] = frozenset()) -> Progress:  # type: ignore[assignment]
    """Progress after these events, 10 ms apart."""
    progress = Progress(deciding)
    for number, (name, data) in enumerate(events):
        progress.take(name, data, number * 10)
    return progress


def test_a_node_is_a_row_with_the_time_between_its_events() -> None:
    (row,) = told(start("1", "plan"), end("1", "plan")).rows
    assert (row.node, row.running, row.took_ms) == ("plan", 0, 10)


def test_executions_of_one_node_in_one_superstep_share_a_row() -> None:
    progress = told(start("1", "search"), start("2", "search"), end("2", "search"), end("1", "search"))
    assert [label(row) for row in progress.rows] == ["search ×2"]
    assert progress.rows[0].took_ms == 30


def test_the_same_node_in_a_later_superstep_has_a_row_of_its_own() -> None:
    progress = told(start("1", "plan"), end("1", "plan"), start("2", "plan"), end("2", "plan"))
    assert [label(row) for row in progress.rows] == ["plan", "plan"]


def test_a_superstep_that_is_told_again_is_counted_once() -> None:
    progress = told(
        start("1", "plan"), end("1", "plan"), start("2", "search"),
        start("1", "plan"), end("1", "plan"), start("2", "search"), end("2", "search"),
    )  # fmt: skip
    assert [label(row) for row in progress.rows] == ["plan", "search"]


def test_what_a_deciding_node_chose_is_what_runs_next() -> None:
    progress = told(
        start("1", "plan"), end("1", "plan"), start("2", "search"), start("3", "search"), start("4", "look"),
        deciding={"plan"},
    )  # fmt: skip
    assert [row.decision for row in progress.rows] == ["search ×2, look", "", ""]


def test_a_deciding_node_after_which_nothing_runs_chose_the_end() -> None:
    progress = told(start("1", "check"), end("1", "check"), ("end", {}), deciding={"check"})
    assert progress.rows[0].decision == "end"


def test_a_deciding_node_that_failed_chose_nothing() -> None:
    progress = told(start("1", "check"), end("1", "check", error="ValueError('no')"), ("end", {}), deciding={"check"})
    assert (progress.rows[0].decision, progress.rows[0].error) == ("", "ValueError('no')")


def test_an_interrupted_node_waits() -> None:
    progress = told(start("1", "review"), end("1", "review", interrupts=[{"id": "i", "value": "?"}]))
    assert progress.rows[0].waits


def test_progress_that_a_node_tells_stands_beside_it() -> None:
    progress = told(start("1", "read"), ("custom", {"progress": "page 1"}), end("1", "read"), ("custom", {"pages": 2}))
    assert progress.rows[0].notes == ["page 1", '{"pages":2}']


def test_rows_are_settled_when_the_next_superstep_begins_or_the_run_ends() -> None:
    events = [start("1", "a"), end("1", "a"), start("2", "b"), end("2", "b")]
    assert list(told(*events[:3]).settled(0)) == []  # there may be more of the second superstep
    assert [row.node for row in told(*events).settled(0)] == ["a"]
    assert [row.node for row in told(*events, ("end", {})).settled(1)] == ["b"]


def test_events_of_subgraphs_and_other_modes_are_left_out() -> None:
    assert told(("tasks|child:1", start("1", "inner")[1]), ("values", {"a": 1}), ("updates", {})).rows == []


def test_words_of_a_custom_event_are_its_text_or_its_json() -> None:
    assert [words("text"), words({"progress": "half"}), words([1])] == ["text", "half", "[1]"]


def test_an_events_instant_is_the_first_part_of_its_id() -> None:
    assert instant_of("1763791200123-4") == 1763791200123


def test_a_row_that_runs_counts_what_has_ended_too() -> None:
    assert Row("n", 0, running=1, ended=2).count == 3
