"""A process's log: words where a person sits, JSON elsewhere, one pipe for all, and no secret in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runyard.engine import redact
from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings
from runyard.tasks.observe import sinks

HEAD = """
import logging, structlog
from runyard.engine.settings import Settings
from runyard.tasks.observe import observe, sinks
settings = Settings.from_env({variables})
observe(settings)
log = structlog.get_logger("runyard.engine.here")
"""
RECORD = """
from runyard.engine.record import About
about = About("r1", "t1", "g", "abc", b'"run_id":"r1","trace_id":"abc"')
record = {"kind": "tool", "status": "ok", "timestamp": 1795341704320, "tool": "look_up", "latency_ms": 1.5}
import orjson
for sink in sinks(settings):
    sink(about, record, orjson.dumps(record))
"""
#: Each in a form that gives it away; none may be in a log.
PLANTED = (
    "sk-planted1234567890abcd", "hunter2hunter2", "ghp_planted1234567890abcdefgh", "AKIAPLANTEDPLANTED12",
    "eyJplanted1.eyJplanted2.planted3",
)  # fmt: skip


def lines(program: str, **variables: str) -> list[dict[str, Any]]:
    ran = subprocess.run(
        [sys.executable, "-c", HEAD.replace("{variables}", repr(variables)) + program],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ran.stderr == ""
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_log_that_goes_to_a_file_is_one_json_object_a_line() -> None:
    program = """
log.info("quiet")
try:
    raise ValueError("boom")
except ValueError:
    log.exception("loud", run_id="r1")
"""
    (line,) = lines(program, RUNYARD_LOG_LEVEL="WARNING")
    assert (line["event"], line["run_id"], line["level"]) == ("loud", "r1", "error")
    assert "ValueError: boom" in line["exception"]


def test_libraries_go_through_the_same_pipe_and_speak_when_something_is_wrong() -> None:
    program = """
logging.getLogger("some.library").info("chatter")
logging.getLogger("some.library").warning("it is %s", "odd")
try:
    raise ValueError("boom")
except ValueError:
    logging.getLogger("celery.worker").exception("task failed")
"""
    odd, failed = lines(program)
    assert (odd["event"], odd["logger"], odd["level"]) == ("it is odd", "some.library", "warning")
    assert failed["event"] == "task failed"
    assert "ValueError: boom" in failed["exception"]
    assert {"timestamp"} <= odd.keys() & failed.keys()


def test_warnings_and_what_nobody_caught_are_in_the_same_form() -> None:
    program = """
import threading, warnings
warnings.warn("this is old", DeprecationWarning, stacklevel=1)
def fail():
    raise ValueError("boom, password=hunter2hunter2")
thread = threading.Thread(target=fail, name="helper")
thread.start()
thread.join()
import sys
sys.excepthook(*(lambda error: (type(error), error, None))(KeyError("last")))
"""
    warned, in_thread, last = lines(program)
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")
    assert "this is old" in warned["event"]
    assert (in_thread["event"], in_thread["level"], in_thread["thread"]) == ("uncaught", "critical", "helper")
    assert "boom" in in_thread["exception"]
    assert "hunter2" not in in_thread["exception"]
    assert "KeyError" in last["exception"]


def test_a_line_from_a_signal_handler_has_the_form_too() -> None:
    program = """
from runyard.tasks.observe import say_at_once
say_at_once("worker: Warm shutdown", settings)
"""
    (line,) = lines(program)
    assert (line["event"], line["level"]) == ("worker: Warm shutdown", "info")


def test_a_line_says_which_module_it_is_from() -> None:
    (line,) = lines('log.info("here")')
    assert line["logger"] == "runyard.engine.here"


def test_a_module_has_the_level_that_is_set_for_it() -> None:
    program = """
log.info("ours")
structlog.get_logger("runyard.engine.recovery").info("too quiet")
structlog.get_logger("runyard.engine.recovery").warning("loud enough")
structlog.get_logger("runyard.engine.here.deep").debug("deep")
logging.getLogger("some.library").info("asked for")
"""
    levels = "runyard.engine.recovery=WARNING, runyard.engine.here.deep=DEBUG,some.library=INFO"
    assert [line["event"] for line in lines(program, RUNYARD_LOG_LEVELS=levels)] == [
        "ours", "loud enough", "deep", "asked for",
    ]  # fmt: skip


def test_a_record_of_the_ledger_is_a_line_with_the_runs_ids() -> None:
    (line,) = lines(RECORD)
    assert line.pop("timestamp").startswith("20")
    assert line == {
        "event": "node.tool", "level": "info", "run_id": "r1", "trace_id": "abc", "kind": "tool", "status": "ok",
        "began_ms": 1795341704320, "tool": "look_up", "latency_ms": 1.5,
    }  # fmt: skip
    assert lines(RECORD, RUNYARD_LOG_RECORDS="off") == []
    assert lines(RECORD, RUNYARD_LOG_LEVELS="runyard.records=WARNING") == []


def test_words_are_for_people() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", HEAD.replace("{variables}", repr({"RUNYARD_LOG_FORMAT": "console"})) + RECORD],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    (line,) = ran.stdout.splitlines()
    assert "node.tool" in line
    assert "look_up" in line
    assert not line.startswith("{")


def test_no_secret_is_in_the_log_whoever_logs_it() -> None:
    program = f"""
planted = {PLANTED!r}
log.info("given", args={{"api_key": planted[1], "nested": [{{"password": planted[1]}}]}}, token=planted[1])
log.info("said", text=f"use {{planted[0]}} or {{planted[2]}}", url=f"redis://me:{{planted[1]}}@host/0")
log.warning(f"in the event itself: Bearer {{planted[4]}}")
logging.getLogger("lib").warning("key %s, header Authorization: Bearer %s", planted[3], planted[4])
try:
    raise ValueError(f"refused {{planted[0]}}, password={{planted[1]}}")
except ValueError:
    log.exception("failed")
    logging.getLogger("lib").exception("failed there")
"""
    told = lines(program)
    assert len(told) == 6
    text = json.dumps(told)
    assert [secret for secret in PLANTED if secret in text] == []
    assert text.count(redact.HIDDEN) >= 10


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("refused: password=hunter2 for me", "refused: password=[redacted] for me"),
        ("f(api_key='hunter2', n=1)", "f(api_key='[redacted]', n=1)"),
        ("{'access_token': 'hunter2', 'n': 1}", "{'access_token': '[redacted]', 'n': 1}"),
        ('{"client_secret": "hunter2"}', '{"client_secret": "[redacted]"}'),
        ("?token=hunter2&page=2", "?token=[redacted]&page=2"),
        ("unexpected token: word", "unexpected token: word"),
        ("tokens=12", "tokens=12"),
        ("password=[redacted]", "password=[redacted]"),
    ],
)
def test_a_secret_is_known_by_its_name_in_the_middle_of_text(said: str, kept: str) -> None:
    assert redact.text(said) == kept


def test_names_and_variables_that_a_process_was_told_of_are_secrets_too(learned: Callable[..., None]) -> None:
    learned({"OPENAI_API_KEY": "plainlooking99", "TOKEN": "short", "HOME": "/home/me"}, ["ssn", "iban"])
    said = "customer_ssn=123-45 iban: 'DE1', plainlooking99 of /home/me, classname=x, short"
    assert redact.text(said) == ("customer_ssn=[redacted] iban: 'DE1', [redacted] of /home/me, classname=x, short")
    given = {"SSN": "123", "customer_iban": "DE1", "ssnx": "1", "deep": ["a plainlooking99 b"]}
    shown = {"SSN": "[redacted]", "customer_iban": "[redacted]", "ssnx": "1", "deep": ["a [redacted] b"]}
    assert redact.plain(given) == shown
    learned({})
    assert redact.plain(given) == given


def test_keys_of_our_own_are_known_by_their_form() -> None:
    key = "ry_5f0c1e9a7b3d2468_GAZA9arT0yc2dXHg6qcTTrJ5ptjo8zC6z3KGNEzeDy4"
    assert redact.text(f"sent {key} and whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") == "sent [redacted] and [redacted]"


@pytest.fixture
def learned() -> Iterator[Callable[..., None]]:
    yield redact.learn
    redact.learn({})


def test_what_is_no_secret_stays() -> None:
    harmless = {"tokens_used": 12, "monkey": "k", "author": "me", "keyboard": "qwerty", "text": "a = b", "at": "x@y.z"}
    assert redact.plain(harmless) == harmless


def test_nothing_is_built_for_a_log_that_is_off() -> None:
    assert sinks(Settings.from_env({}, metrics="off", log_records="off")) == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RUNYARD_LOG_LEVEL", "LOUD", "it must be one of DEBUG"),
        ("RUNYARD_LOG_LEVELS", "celery=LOUD", "it must be module=LEVEL pairs"),
        ("RUNYARD_LOG_FORMAT", "xml", "it must be auto, json or console"),
        ("RUNYARD_LOG_RECORDS", "yes", "it must be on or off"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='{value}' is not valid: {words}"):
        Settings.from_env({name: value})
