"""Values on their way out: whatever a graph holds becomes JSON, and nothing it holds can fail a run."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from langchain_core.messages import AIMessageChunk, HumanMessage
from langgraph.types import Interrupt, Send
from pydantic import BaseModel, SecretStr

from runyard.engine import wire


def sent(value: Any) -> Any:
    return json.loads(wire.encode(value))


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


@dataclass
class Point:
    x: int
    inner: Any = None
    tags: set[str] = field(default_factory=set)


class Model(BaseModel):
    name: str
    points: list[Point] = []
    when: datetime | None = None


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the kind without types


class Loud:
    def __repr__(self) -> str:
        return "<loud>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (math.nan, None),
        (math.inf, None),
        ({"deep": [1, math.nan]}, {"deep": [1, None]}),
        (2**53 + 1, 2**53 + 1),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        ({"n": [-(2**200)]}, {"n": [str(-(2**200))]}),
        (b"\xff\x00", "/wA="),
        (bytearray(b"ab"), "YWI="),
        pytest.param(memoryview(b"ab"), "YWI=", id="memoryview"),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        ((1, (2,)), [1, [2]]),
        (deque([1]), [1]),
        (Pair(1, 2), {"left": 1, "right": 2}),
        (Point(1, Point(2)), {"x": 1, "inner": {"x": 2, "inner": None, "tags": []}, "tags": []}),
        (Model(name="a"), {"name": "a", "points": [], "when": None}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Text("t"), "t"),
        (Decimal("1.10"), "1.10"),
        (timedelta(seconds=90), 90.0),
        (PurePosixPath("/a"), "/a"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (ValueError("no"), {"error": "ValueError", "message": "no"}),
        (Loud(), "<loud>"),
        (Loud, repr(Loud)),
        (Model, repr(Model)),
        (OrderedDict(a=1), {"a": 1}),
        ({2: "a", None: "b", True: "c", 2.5: "d"}, {"2": "a", "null": "b", "true": "c", "2.5": "d"}),
        ({2: 2**70, None: "b", True: "c", 2.5: "d"}, {"2": str(2**70), "null": "b", "true": "c", "2.5": "d"}),
        (
            {"big": 2**70, "when": date(2026, 1, 2), "pair": Pair(1, b"a")},
            {"big": str(2**70), "when": "2026-01-02", "pair": {"left": 1, "right": "YQ=="}},
        ),
        (Interrupt(value={"q": 1}, id="i1"), {"value": {"q": 1}, "id": "i1"}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_odd_values_become_json(value: Any, expected: Any) -> None:
    assert sent(value) == expected
    assert sent({"in": [value]}) == {"in": [expected]}


def test_a_key_that_json_has_no_form_for_is_written_as_text() -> None:
    assert sent({(1, 2): "a", b"k": "b", Loud(): "c"}) == {"(1, 2)": "a", "b'k'": "b", "<loud>": "c"}


def test_a_lone_surrogate_does_not_lose_the_rest() -> None:
    found = sent({"text": "a\ud800b", "n": 2**70, "\udfff": 1})
    assert found["n"] == str(2**70)
    assert found["text"].startswith("a")
    assert found["text"].endswith("b")


def test_a_lone_surrogate_inside_a_model_does_not_fail_either() -> None:
    assert sent({"m": Point(1, "a\ud800")})["m"]["x"] == 1
    assert sent([Text("a\ud800"), HumanMessage("\ud83d")])[1]["type"] == "human"


def test_what_is_too_deep_ends_in_text() -> None:
    deep: Any = "bottom"
    for _ in range(2_000):
        deep = [deep]
    assert wire.encode({"deep": deep})


def test_what_holds_itself_ends_in_text() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop["again"] = loop["too"] = loop
    assert wire.encode(loop)


def test_big_integers_inside_dataclasses_and_models_are_text() -> None:
    assert sent(Point(2**80))["x"] == str(2**80)
    assert sent({"m": Model(name="a", points=[Point(2**80)])})["m"]["points"][0]["x"] == str(2**80)


def test_an_object_that_cannot_even_be_shown_does_not_fail() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    class BrokenModel:
        def model_dump(self) -> Any:
            raise RuntimeError("no")

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    assert wire.encode([Broken(), BrokenModel(), BrokenError()])
    assert wire.error_of(BrokenError())["error"] == "BrokenError"


def test_a_dataclass_that_cannot_be_copied_does_not_fail() -> None:
    import threading

    assert wire.encode(Point(1, threading.Lock()))


def test_messages_and_sends_are_their_fields() -> None:
    found = sent([HumanMessage("hello", id="h"), AIMessageChunk("he")])
    assert (found[0]["type"], found[0]["content"], found[0]["id"]) == ("human", "hello", "h")
    assert found[1]["type"] == "AIMessageChunk"
    assert "node" in json.dumps(sent(Send("node", {"a": 1})))


def test_a_secret_stays_secret() -> None:
    class Config(BaseModel):
        key: SecretStr

    assert b"hunter2" not in wire.encode(Config(key=SecretStr("hunter2")))


def test_text_is_utf8_and_not_escaped() -> None:
    assert wire.encode("ü\x00") == '"ü\\u0000"'.encode()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=())) | st.integers() | st.tuples(st.integers()), inner, max_size=4
        )
        | st.tuples(inner)
        | st.builds(Point, st.integers(), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_every_value_becomes_json(value: Any) -> None:
    json.loads(wire.encode(value))


@pytest.mark.parametrize("data", [b"{}", b'"' + b"a" * 5000 + b'"', bytes(range(256)) * 8, b""])
def test_what_is_packed_comes_back(data: bytes) -> None:
    packed = wire.pack_json(data)
    assert wire.unpack_json(packed) == data
    assert len(packed) <= len(data) + 1


def test_an_error_is_its_type_and_text() -> None:
    assert wire.error_of(ValueError("no")) == {"error": "ValueError", "message": "no"}
