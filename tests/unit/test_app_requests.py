"""From a client's RunCreate to the engine's request."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from runyard.app.errors import BadRequest
from runyard.app.run_requests import to_request
from runyard.app.schemas.runs import STREAM_MODES, RunCreate
from runyard.engine.errors import InvalidInput
from runyard.engine.run import RunRequest

SCHEMA = RunCreate()


def request(**body: Any) -> RunRequest:
    return to_request(SCHEMA.load({"assistant_id": "agent", **body}))


def test_a_bare_request_has_the_defaults_of_langgraphs_server() -> None:
    assert request() == RunRequest(stream_mode=["values"], durability="async")


def test_null_is_as_good_as_leaving_a_field_out() -> None:
    fields = dict.fromkeys(name for name in SCHEMA.fields if name != "assistant_id")
    assert request(**fields) == request()


def test_what_a_body_leaves_out_is_passed_over_and_what_must_be_there_is_missed() -> None:
    assert set(SCHEMA.load({"assistant_id": "agent", "input": 1, "of_a_newer_client": 2})) == {"assistant_id", "input"}
    with pytest.raises(ValidationError, match="assistant_id"):
        SCHEMA.load({"input": 1})
    with pytest.raises(ValidationError, match="is not a field of this request"):
        SCHEMA.load({"assistant_id": "agent", "command": {"resume": 1, "go": 2}})


@pytest.mark.parametrize(
    ("given", "modes"), [([], ["values"]), ("updates", ["updates"]), (["values", "values"], ["values"])]
)
def test_stream_modes_are_a_list_without_repetitions(given: Any, modes: list[str]) -> None:
    assert request(stream_mode=given).stream_mode == modes


def test_every_mode_of_the_contract_is_known() -> None:
    assert request(stream_mode=list(STREAM_MODES)).stream_mode == list(STREAM_MODES)


def test_unknown_fields_are_ignored() -> None:
    assert request(langsmith_tracer={"a": 1}, whatever=2) == request()


@pytest.mark.parametrize("empty", [{}, {"goto": []}, {"goto": [], "resume": None, "update": None}])
def test_a_command_that_says_nothing_is_no_command(empty: dict[str, Any]) -> None:
    assert request(command=empty).command is None


@pytest.mark.parametrize("answer", ["", False, 0, [], {}])
def test_an_answer_to_an_interrupt_may_be_an_empty_one(answer: Any) -> None:
    assert request(command={"resume": answer, "goto": []}).command == {"resume": answer}


def test_context_and_configurable_contradict_each_other() -> None:
    with pytest.raises(BadRequest, match="either context or"):
        request(context={"a": 1}, config={"configurable": {"a": 1}})


def test_context_is_also_found_where_older_graphs_look() -> None:
    made = request(context={"a": 1})
    assert (made.context, made.config["configurable"]) == ({"a": 1}, {"a": 1})


@pytest.mark.parametrize(("body", "durability"), [
    ({"checkpoint_during": False}, "exit"),
    ({"checkpoint_during": True}, "async"),
    ({"checkpoint_during": False, "durability": "sync"}, "sync"),
])  # fmt: skip
def test_the_older_word_for_durability_still_counts(body: dict[str, Any], durability: str) -> None:
    assert request(**body).durability == durability


def test_a_checkpoint_can_be_named_in_two_ways() -> None:
    wanted = "1ef4f797-8335-6428-8001-8a1503f9b875"
    assert request(checkpoint_id=wanted).checkpoint == {"checkpoint_id": wanted}
    assert request(checkpoint={"checkpoint_ns": "", "checkpoint_id": wanted}).checkpoint == {
        "checkpoint_ns": "",
        "checkpoint_id": wanted,
    }


def test_a_checkpoint_without_an_id_is_where_the_thread_stands() -> None:
    assert request(checkpoint={"thread_id": "t", "checkpoint_ns": ""}).checkpoint is None


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"assistant_id": 5}, "assistant_id", "must be text, not 5"),
        ({"assistant_id": " "}, "assistant_id", "not empty"),
        ({"config": {"recursion_limit": 0}}, "recursion_limit", "a whole number of 1 or more, not 0"),
        ({"config": {"recursion_limit": True}}, "recursion_limit", "not true"),
        ({"config": {"tags": "a"}}, "tags", "a list of texts"),
        ({"config": {"configurable": {"__pregel_send": 1}}}, "configurable", "belong to LangGraph"),
        ({"config": []}, "_schema", "must be a JSON object"),
        ({"stream_mode": "nope"}, "stream_mode", "must be one of values, updates"),
        ({"stream_mode": ["values", 5]}, "stream_mode", "or a list of these"),
        ({"multitask_strategy": "wait"}, "multitask_strategy", '"enqueue", "reject", "interrupt" or "rollback"'),
        ({"if_not_exists": "no"}, "if_not_exists", '"reject" or "create", not "no"'),
        ({"after_seconds": -1}, "after_seconds", "a number of seconds from 0"),
        ({"after_seconds": "5"}, "after_seconds", "a number of seconds from 0"),
        ({"durability": "none"}, "durability", '"sync", "async" or "exit"'),
        ({"interrupt_before": "node"}, "interrupt_before", '"\\*" or a list of node names'),
        ({"command": {"goto": 5}}, "goto", "a node name"),
        ({"command": {"goto": [{"node": 1}]}}, "goto", "a node name"),
        ({"command": {"resumes": 1}}, "resumes", "is not a field"),
        ({"checkpoint_id": "x"}, "checkpoint_id", "a UUID"),
        ({"webhook": ["https://a.dev"]}, "webhook", "must be text"),
        ({"on_disconnect": "stop"}, "on_disconnect", '"continue" or "cancel"'),
        ({"stream_resumable": 1}, "stream_resumable", "true or false, not 1"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_accepted(body: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        SCHEMA.load({"assistant_id": "agent", **body})
    assert field in str(caught.value.messages)


def test_a_checkpoint_in_the_config_is_where_the_run_goes_on_and_leaves_the_context_alone() -> None:
    wanted = "1efd0000-0000-6000-8000-000000000001"
    body = {"config": {"configurable": {"checkpoint_id": wanted}}, "context": {"user": "ada"}}
    made = to_request(body)
    assert made.checkpoint == {"checkpoint_id": wanted}
    assert made.config["configurable"] == {"user": "ada"}
    with pytest.raises(InvalidInput, match="checkpoint_id"):
        to_request({"config": {"configurable": {"checkpoint_id": "here"}}})
