"""Bodies are read strictly, and refused in words that name the place."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from runyard.app.body import MAX_DEPTH, is_deeper, parse, sentence
from runyard.engine.errors import InvalidInput


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("text", [b"{bad", b'{"a":NaN}', b'{"a":1', b'{"a":"\xff"}', b"'a'", b"{}{}", b'"\\ud800"'])
def test_what_is_not_json_is_refused_with_its_line_and_column(text: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"not valid JSON, at line 1 column \d+"):
        parse(text)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 1_000, 200_000])
def test_absurd_nesting_is_refused_and_not_followed(levels: int) -> None:
    with pytest.raises(InvalidInput):
        parse(nested(levels))


def test_nesting_up_to_the_limit_is_accepted() -> None:
    assert not is_deeper(parse(nested(MAX_DEPTH)), MAX_DEPTH)


def test_many_shallow_objects_are_not_mistaken_for_deep_ones() -> None:
    assert len(parse(b"[" + b"{}," * 10_000 + b"{}]")) == 10_001


@given(st.integers(1, 40), st.integers(1, 40))
def test_depth_is_counted_exactly(levels: int, limit: int) -> None:
    assert is_deeper(parse(nested(levels)), limit) == (levels > limit)


def test_faults_name_their_field_by_its_path() -> None:
    messages = {"json": {"config": {"tags": ["must be a list of texts, not 5"]}, "input": ["is wrong"]}}
    assert sentence(messages) == "config.tags: must be a list of texts, not 5; input: is wrong"


def test_a_fault_of_the_whole_body_is_said_of_the_body() -> None:
    assert sentence({"json": {"_schema": ["must be a JSON object"]}}) == "body: must be a JSON object"


def test_only_the_first_faults_are_told_and_the_others_counted() -> None:
    assert sentence({"json": {str(n): ["no"] for n in range(9)}}).endswith("4: no; and 4 more")
