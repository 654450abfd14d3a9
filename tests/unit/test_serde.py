import os
import pickle
import sqlite3
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt, Send

from runyard.engine.errors import Unserializable
from runyard.engine.store.serde import COMPRESS_FROM_BYTES, MOST_ALLOWLISTS, decode, encode, strict_serde


@dataclass
class Report:
    title: str
    source: Any = None


def round_trip(value: object) -> object:
    return decode(strict_serde(), encode(strict_serde(), "key", value))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"raw",
        b"",
        bytearray(b"raw"),
        "",
        0,
        [],
        {"a": [1, 2.5, True, None], "b": {"c": "ü"}},
        {1, 2},
        Send("node", {"x": 1}),
        [HumanMessage("hi", id="1")],
        "long " * 1000,
        b"\0" * 5000,
    ],
)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    assert round_trip(value) == value


def test_an_interrupt_comes_back() -> None:
    [back] = round_trip((Interrupt(value={"ask": 1}, id="i"),))  # type: ignore[misc]
    assert (back.value, back.id) == ({"ask": 1}, "i")


def test_an_error_is_stored_as_the_text_that_langgraph_makes_of_it() -> None:
    assert round_trip(ValueError("no")) == "ValueError('no')"


def test_large_values_are_compressed_and_say_so() -> None:
    stored = encode(strict_serde(), "key", "a" * COMPRESS_FROM_BYTES)
    assert stored[:1] == b"M"
    assert len(stored) < 100


def test_small_values_and_values_that_do_not_shrink_are_left_alone() -> None:
    noise = os.urandom(4 * COMPRESS_FROM_BYTES)
    assert encode(strict_serde(), "key", noise) == b"b" + noise
    assert encode(strict_serde(), "key", "a" * 500)[:1] == b"m"


def test_a_type_on_no_list_comes_back_as_plain_data() -> None:
    stored = encode(strict_serde(), "key", Report("t"))
    assert decode(strict_serde(), stored) == {"title": "t", "source": None}


def test_a_type_that_the_graph_names_is_revived() -> None:
    serde = strict_serde().with_msgpack_allowlist([Report])
    assert decode(serde, encode(serde, "key", Report("t"))) == Report("t")


@pytest.mark.parametrize("kind", [b"pickle", b"json", b"pickle+aes"])
def test_a_stored_value_that_could_run_code_is_refused(kind: bytes) -> None:
    stored = b"t" + bytes([len(kind)]) + kind + pickle.dumps({"a": 1})
    with pytest.raises(Unserializable, match="never loaded"):
        decode(JsonPlusSerializer(pickle_fallback=True), stored)


def test_nothing_is_pickled_even_by_a_serializer_that_would() -> None:
    with pytest.raises(Unserializable, match='"key"'):
        encode(JsonPlusSerializer(pickle_fallback=True), "key", Report("t", source=object()))


def test_an_encrypted_value_comes_back_and_is_not_readable() -> None:
    class Backwards:
        def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
            return "backwards", plaintext[::-1]

        def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
            assert ciphername == "backwards"
            return ciphertext[::-1]

    serde = EncryptedSerializer(Backwards(), strict_serde())
    stored = encode(serde, "key", {"secret": "plain"})
    assert b"plain" not in stored
    assert decode(serde, stored) == {"secret": "plain"}


def message_with(thing: object) -> list[AIMessage]:
    return [AIMessage("a"), AIMessage("b"), AIMessage("c"), AIMessage("d", additional_kwargs={"conn": thing})]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (message_with(sqlite3), 'key[3].additional_kwargs["conn"] is a builtins.module'),
        ({"a": {"b": (1, object())}}, 'key["a"]["b"][1] is a builtins.object'),
        ({7: object()}, "key[7] is a builtins.object"),
        ([Report("t", source=print)], "key[0].source is a builtins.builtin_function_or_method"),
        (Send("node", {"x": object()}), 'key.arg["x"] is a builtins.object'),
        ([1, 2**70], "key[1] is a builtins.int"),
        (object(), "the value is a builtins.object"),
    ],
)
def test_an_error_names_the_state_key_the_place_and_the_type(value: object, place: str) -> None:
    with pytest.raises(Unserializable) as raised:
        encode(strict_serde(), "key", value)
    assert str(raised.value).startswith('State key "key" cannot be stored: ')
    assert place in str(raised.value)


def test_a_value_that_contains_itself_is_an_error_and_not_a_hang() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(Unserializable, match="is a builtins"):
        encode(strict_serde(), "key", loop)


def test_a_serializer_with_a_list_of_types_is_made_once_and_revives_those_only() -> None:
    plain, mine, others = strict_serde(), {("decimal", "Decimal")}, {("fractions", "Fraction")}
    allowing = plain.with_msgpack_allowlist(mine)
    assert plain.with_msgpack_allowlist(set(mine)) is allowing
    assert allowing.with_msgpack_allowlist(mine) is allowing
    assert plain.with_msgpack_allowlist(others) is not allowing
    assert plain.with_msgpack_allowlist(()) is plain
    both = allowing.with_msgpack_allowlist(others)
    assert both is allowing.with_msgpack_allowlist(others) is not allowing
    assert both._allowed_msgpack_modules == mine | others
    assert allowing._allowed_msgpack_modules == mine
    for number in range(2 * MOST_ALLOWLISTS):
        plain.with_msgpack_allowlist({("made", f"T{number}")})
    assert len(plain._allowing) <= MOST_ALLOWLISTS
