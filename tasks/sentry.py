"""Sentry: an event for each run that failed for good, and for each failure in a process that nobody expected.

Attempts that are tried again, parked and cancelled runs, and requests that were wrong make none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any, cast

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.modules import ModulesIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.types import Event, Hint
from sentry_sdk.utils import event_from_exception

from runyard.engine import redact
from runyard.engine.errors import StoreUnavailable
from runyard.engine.letter import error_fingerprint
from runyard.engine.run import Run

#: Longest text in an event, in characters.
MOST_TEXT = 4_000
_FRAME = re.compile(
    r'^  File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)\n(?:    (?P<code>\S.*)\n)?', re.MULTILINE
)


def begin(dsn: str) -> None:
    """Set Sentry up in this process; what it already has is replaced.

    Only what is named is hooked in. The integrations that Sentry finds by itself would report every failed attempt of
    a tool or a model, put a scope around every task, and add headers to messages and to the requests of nodes.
    """
    from sentry_sdk.integrations.flask import FlaskIntegration  # noqa: PLC0415 - it loads Flask: 4 MB of a worker

    sentry_sdk.init(
        dsn,
        release=os.environ.get("SENTRY_RELEASE") or f"runyard@{metadata.version('runyard')}",
        default_integrations=False,
        integrations=[
            FlaskIntegration(), ThreadingIntegration(propagate_scope=False), ExcepthookIntegration(),
            AtexitIntegration(callback=lambda *_: None), ModulesIntegration(),
        ],
        # What a run was given may hold anything: neither request bodies nor local variables leave the process, nor
        # what else the process did before: that was for other runs. Cookies and addresses stay here by default.
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        trace_propagation_targets=[],
        before_send=_without_secrets,
    )  # fmt: skip


def report(error: BaseException) -> None:
    """Tell of a failure that nobody expected, where Sentry is set up. A store that is away is no news of a program."""
    if not isinstance(error, StoreUnavailable):
        sentry_sdk.capture_exception(error)


def report_run(run: Run, error: Mapping[str, Any], cause: BaseException | None) -> None:
    """Tell of a run that has become a dead letter. ``cause`` is the exception where it was raised in this process;
    without it the stack is the one in ``error``. Any thread; returns at once."""
    options = sentry_sdk.get_client().options
    if cause is not None:
        event = event_from_exception(cause, client_options=options, mechanism={"type": "runyard", "handled": False})[0]
    else:
        event = cast(Event, {"exception": {"values": [_exception(error)]}})
    event["level"] = "error"
    event["logger"] = "runyard.runs"
    event["transaction"] = ".".join(filter(None, (run.graph_id, error.get("node"))))
    event["fingerprint"] = [error_fingerprint(run.graph_id, dict(error))]
    if not os.environ.get("SENTRY_RELEASE") and run.fingerprint:
        event["release"] = f"{run.graph_id}@{run.fingerprint}"
    told = {
        "run_id": run.run_id, "thread_id": run.thread_id, "graph": run.graph_id, "graph_version": run.fingerprint,
        "node": error.get("node"), "attempt": error.get("attempt"), "replays": run.replays,
    }  # fmt: skip
    event["tags"] = {name: str(value) for name, value in told.items() if value not in (None, "")}
    sentry_sdk.capture_event(event)


def _exception(error: Mapping[str, Any]) -> dict[str, Any]:
    """An exception of another process, from what is written of it."""
    made = {"type": error.get("error"), "value": error.get("message"), "mechanism": {"type": "runyard"}}
    last = str(error.get("traceback") or "").rpartition("Traceback (most recent call last):")[2]
    frames = [
        {"abs_path": found["file"], "filename": found["file"], "lineno": int(found["line"]),
         "function": found["function"], "context_line": found["code"]}
        for found in _FRAME.finditer(last)
    ]  # fmt: skip
    return {**made, "stacktrace": {"frames": frames}} if frames else made


def _without_secrets(event: Event, _: Hint) -> Event | None:
    return cast(Event, _redacted(event))


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact.text(value, MOST_TEXT)
    if isinstance(value, Mapping):
        return {
            name: redact.HIDDEN if item and isinstance(item, str) and redact.hides(str(name)) else _redacted(item)
            for name, item in value.items()
        }
    return [_redacted(item) for item in value] if isinstance(value, (list, tuple)) else value
