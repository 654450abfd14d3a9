"""Every Lua script says what it takes and gives, takes exactly that, and is sent by somebody."""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from importlib import resources
from pathlib import Path

import pytest

from runyard.engine.store import scripts
from runyard.engine.store.scripts import all_scripts, script

STORE = Path(str(resources.files("runyard.engine.store")))
NAMES = sorted(path.stem for path in STORE.glob("*.lua"))
LIBRARIES = [name for name in NAMES if name.startswith("lib_")]
SCRIPTS = [name for name in NAMES if not name.startswith("lib_")]


def text(name: str) -> str:
    return (STORE / f"{name}.lua").read_text(encoding="utf-8")


def header(name: str) -> str:
    """The comment a script opens with, in one line."""
    lines = []
    for line in text(name).splitlines():
        if not line.startswith("--") or line.startswith("--@"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def part(name: str, word: str, until: str) -> str:
    found = re.search(rf"\b{word}\b(.*?)(?:\b(?:{until})\b|$)", header(name))
    return found[1] if found else ""


def numbers(said: str) -> set[int]:
    """The positions a header names: `1 run  2 leases`, `3, 4 ... pairs`, `5.. words`."""
    return {int(number) for number in re.findall(r"(?<![\w.])(\d+)(?=[ ,.]|$)(?!\.\d)", said)}


def body(name: str) -> str:
    return "\n".join(line.split("--")[0] if "--@" not in line else "" for line in text(name).splitlines())


def used(name: str, array: str) -> set[int]:
    direct = {int(number) for number in re.findall(rf"\b{array}\[(\d+)\]", body(name))}
    unpacked = {int(number) for number in re.findall(rf"unpack\({array}, (\d+)\)", body(name))}
    each = "then for each" in part(name, array, "ARGV|Returns")  # what is repeated has no number
    loops = set() if each else {int(n) for n in re.findall(rf"for i = (\d+), #{array}\b", body(name))}
    return direct | unpacked | loops


def test_there_are_scripts_and_the_list_of_all_names_them() -> None:
    assert [one.name for one in all_scripts()] == SCRIPTS
    assert len(SCRIPTS) > 25


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_with_its_purpose_its_keys_its_arguments_and_its_answers(name: str) -> None:
    said = header(name)
    purpose = said.split(" KEYS ")[0]
    assert purpose[0].isupper()
    assert purpose.endswith(".")
    for word in ("KEYS", "Returns"):
        assert re.search(rf"\b{word} ", said), f"{name}.lua does not say its {word}"
    assert ("ARGV" in body(name)) == (" ARGV " in said)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_names_every_key_and_argument_that_is_used(name: str) -> None:
    assert used(name, "KEYS") <= numbers(part(name, "KEYS", "ARGV|Returns"))
    assert used(name, "ARGV") <= numbers(part(name, "ARGV", "Returns"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_error_word_of_a_script_is_in_its_header_or_in_the_library_it_includes(name: str) -> None:
    for word in re.findall(r"error_reply\('([A-Z_]+)", body(name)):
        assert word in header(name)


@pytest.mark.parametrize("name", NAMES)
def test_includes_are_resolved_and_none_is_left(name: str) -> None:
    wanted = re.findall(r"^--@include (\w+)$", text(name), re.MULTILINE)
    assert {f"lib_{word}" for word in wanted} <= set(LIBRARIES)
    assert len(wanted) == text(name).count("--@")
    if name in SCRIPTS:
        assert "--@" not in script(name).source
        assert all(text(f"lib_{word}").strip() in script(name).source for word in wanted)


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_library_is_included_and_every_function_of_it_is_used(name: str) -> None:
    users = [one for one in SCRIPTS if f"--@include {name.removeprefix('lib_')}\n" in text(one)]
    assert users
    beside = {f"lib_{word}" for one in users for word in re.findall(r"^--@include (\w+)$", text(one), re.MULTILINE)}
    for function in re.findall(r"^local function (\w+)", text(name), re.MULTILINE):
        everywhere = "\n".join(map(body, [*users, *beside]))
        assert len(re.findall(rf"\b{function}\(", everywhere)) > 1, f"{function} of {name}.lua is never called"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_every_library_it_includes(name: str) -> None:
    wanted = re.findall(r"^--@include (\w+)$", text(name), re.MULTILINE)
    for word in wanted:
        functions = re.findall(r"^local function (\w+)", text(f"lib_{word}"), re.MULTILINE)
        texts = [body(name), *(body(f"lib_{other}") for other in wanted if other != word)]
        assert any(re.search(rf"\b{function}\(", text) for function in functions for text in texts), word


@pytest.mark.parametrize("name", NAMES)
def test_no_script_searches_the_keyspace_or_asks_another_clock(name: str) -> None:
    assert not re.search(r"'(KEYS|SCAN|FLUSHALL|FLUSHDB)'", body(name))
    assert name == "lib_clock" or "'TIME'" not in body(name)
    assert "os.time" not in body(name)


def test_the_digest_of_a_script_is_the_one_the_server_computes() -> None:
    for one in all_scripts():
        assert one.sha == hashlib.sha1(one.source.encode(), usedforsecurity=False).hexdigest()
    assert script("claim_run") is scripts.script("claim_run")


@cache
def calls() -> dict[str, list[ast.Call]]:
    """Every ``Call(script("name"), keys, …)`` in the engine."""
    found: dict[str, list[ast.Call]] = {}
    for path in STORE.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Call":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Call) and isinstance(first.args[0], ast.Constant):
                    found.setdefault(first.args[0].value, []).append(node)
    return found


def test_every_script_is_sent_by_a_typed_function_and_no_other_is() -> None:
    assert sorted(calls()) == SCRIPTS


def tuple_length(node: ast.expr) -> int | None:
    """How many keys a call sends, where its keys are written out; None where they depend on the data."""
    if isinstance(node, ast.Tuple) and not any(isinstance(item, ast.Starred) for item in node.elts):
        return len(node.elts)
    return None


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_typed_function_sends_as_many_keys_as_the_header_names(name: str) -> None:
    named = numbers(part(name, "KEYS", "ARGV|Returns"))
    open_ended = bool(re.search(r"\.\.|then for each", part(name, "KEYS", "ARGV|Returns")))
    for sent in (tuple_length(keys_of(node)) for node in calls()[name]):
        if sent is not None and not open_ended:
            assert sent == max(named)
            assert named == set(range(1, sent + 1))


def keys_of(call: ast.Call) -> ast.expr:
    """The keys of a call; a name is looked up in the functions of its module."""
    keys = call.args[1]
    if not isinstance(keys, ast.Name):
        return keys
    for path in STORE.parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and ast.dump(call) in ast.dump(function):
                for node in ast.walk(function):
                    if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == keys.id:
                        return node.value
    return keys
