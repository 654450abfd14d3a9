"""Filters of authorization handlers."""

from __future__ import annotations

from typing import Any

import pytest

from runyard.app.auth.filters import WrongFilter, fits

METADATA = {"owner": "ann", "members": ["ann", "bob"], "n": 1, "deep": {"a": 1}, "text": "annbob"}


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({}, True),
        ({"owner": "ann"}, True),
        ({"owner": "bob"}, False),
        ({"owner": {"$eq": "ann"}}, True),
        ({"owner": {"$eq": "bob"}}, False),
        ({"members": {"$contains": "bob"}}, True),
        ({"members": {"$contains": ["bob", "ann"]}}, True),
        ({"members": {"$contains": ["bob", "eve"]}}, False),
        ({"members": {"$contains": []}}, True),
        ({"text": {"$contains": "ann"}}, False),
        ({"owner": "ann", "members": {"$contains": "bob"}}, True),
        ({"owner": "ann", "members": {"$contains": "eve"}}, False),
        ({"members": {"$eq": ["ann", "bob"], "$contains": "ann"}}, True),
        ({"deep": {"a": 1}}, True),
        ({"deep": {"a": 2}}, False),
        ({"missing": None}, False),
        ({"missing": {"$eq": None}}, False),
        ({"n": "1"}, False),
    ],
)
def test_a_filter_holds_when_all_of_it_does(wanted: Any, holds: bool) -> None:
    assert fits(wanted, METADATA) is holds


def test_an_operator_that_there_is_not_shows_nothing() -> None:
    with pytest.raises(WrongFilter, match=r"\$or"):
        fits({"owner": {"$or": ["ann"]}}, METADATA)
