"""What encrypts: opened with its key where it belongs, and nowhere else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, strategies as st

from runyard.engine.errors import ConfigError, Sealed
from runyard.engine.settings import Settings
from runyard.engine.vault import MAGIC, Vault, opened, parts, vault_of

OLD, NEW = bytes(32), bytes(range(32))
NAMES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=20)


def of(owner: str) -> object:
    return lambda asked: asked == owner


def entry(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}"


@given(st.binary(max_size=300), st.binary(max_size=20), NAMES)
def test_what_is_sealed_stands_between_plain_bytes_and_is_opened_for_its_owner(
    data: bytes, around: bytes, owner: str
) -> None:
    vault = Vault({"a": OLD})
    around = around.replace(b"\xff", b"")
    stored = around + vault.seal(data, owner) + around + vault.seal(b"more", owner, "another")
    assert vault.open(stored, of(owner)) == around + data + around + b"more"  # type: ignore[arg-type]
    assert [part.key_id for part in parts(stored)] == ["a", "a"]


@given(st.binary(max_size=100), st.integers(0, 10_000), st.integers(1, 255))
def test_one_byte_that_was_changed_is_noticed_or_harmless(data: bytes, where: int, by: int) -> None:
    vault = Vault({"a": OLD})
    sealed = bytearray(vault.seal(data, "run"))
    sealed[where % len(sealed)] ^= by
    try:
        assert vault.open(bytes(sealed), lambda _: True) != data, "what is no sealed part any more is given as it is"
    except Sealed:
        return


def test_a_value_is_sealed_alike_for_one_owner_and_otherwise_for_each() -> None:
    vault = Vault({"a": OLD})
    assert vault.seal(b"x", "one") == Vault({"a": OLD}).seal(b"x", "one")
    assert (
        len({vault.seal(b"x", "one"), vault.seal(b"y", "one"), vault.seal(b"x", "two"), vault.seal(b"x", "o", "ne")})
        == 4
    )


def test_a_value_in_anothers_place_is_not_opened() -> None:
    vault = Vault({"a": OLD})
    with pytest.raises(Sealed, match="'run-1' stands where it does not belong"):
        vault.open(vault.seal(b"x", "run-1"), of("run-2"))  # type: ignore[arg-type]


def test_a_missing_and_a_wrong_key_are_named() -> None:
    stored = Vault({"a": OLD}).seal(b"x", "run")
    with pytest.raises(Sealed, match="under the key 'a', which RUNYARD_ENCRYPTION_KEYS does not name"):
        Vault({"b": NEW}).open(stored, of("run"))  # type: ignore[arg-type]
    with pytest.raises(Sealed, match="cannot be opened with the key 'a'"):
        Vault({"a": NEW}).open(stored, of("run"))  # type: ignore[arg-type]


def test_the_first_key_encrypts_and_all_of_them_decrypt() -> None:
    old, both = Vault({"a": OLD}), Vault({"b": NEW, "a": OLD})
    stored = b"head" + old.seal(b"x", "run", "thread")
    assert both.open(stored, of("thread")) == b"headx"  # type: ignore[arg-type]
    renewed = both.renewed(stored)
    assert renewed is not None
    assert [part.key_id for part in parts(renewed)] == ["b"]
    assert Vault({"b": NEW}).open(renewed, of("run")) == b"headx"  # type: ignore[arg-type]
    assert both.renewed(renewed) is None
    assert both.renewed(b"plain") is None


def test_bytes_that_only_begin_like_a_sealed_part_are_left_alone() -> None:
    vault = Vault({"a": OLD})
    for harmless in (MAGIC, MAGIC + b"\x01\x00", MAGIC * 3, MAGIC + bytes(60), b"x" + MAGIC + b"\x40" * 80):
        assert vault.open(harmless, lambda _: True) == harmless


def test_replies_are_opened_wherever_values_stand_in_them() -> None:
    vault = Vault({"a": OLD})
    sealed = vault.seal(b"x", "run")
    reply = [1, None, "text", sealed, [b"plain", [sealed]], {b"field": sealed}]
    assert opened(vault, reply, lambda _: True) == [1, None, "text", b"x", [b"plain", [b"x"]], {b"field": b"x"}]


@pytest.mark.parametrize(
    "text",
    ["a", "a:", "a:short", "a:" + "!" * 44, f"{entry('a', OLD)} {entry('a', NEW)}", entry("a b", OLD), entry("", OLD)],
)
def test_keys_that_mean_nothing_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(ConfigError, match="RUNYARD_ENCRYPTION_KEYS is not valid") as refused:
        Settings.from_env({"RUNYARD_ENCRYPTION_KEYS": text})
    assert base64.b64encode(OLD).decode() not in str(refused.value)


def test_keys_are_read_in_order() -> None:
    vault = vault_of(f"{entry('b', NEW)}  {entry('a', OLD)}")
    assert vault is not None
    assert (vault.key_id, vault.key_ids) == ("b", ("b", "a"))
    assert vault_of("") is None
