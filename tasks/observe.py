"""What a process says about itself: its log, and the errors nobody expected. Called once, where a process is wired."""

from __future__ import annotations

import logging
import sys

import sentry_sdk
import structlog

from runyard.engine.ledger import Sink
from runyard.engine.ledger_metrics import take_record
from runyard.engine.settings import Settings


def observe(settings: Settings) -> None:
    """Set up the log and, with ``SENTRY_DSN``, Sentry."""
    _log(settings.log_level)
    if settings.sentry_dsn:
        # What a run was given may hold anything: neither request bodies nor local variables leave the process.
        sentry_sdk.init(
            settings.sentry_dsn,
            send_default_pii=False,
            include_local_variables=False,
            max_request_body_size="never",
        )


def sinks(settings: Settings) -> tuple[Sink, ...]:
    """Who is told of every record of the ledger, by the settings."""
    return (take_record,) if settings.metrics == "on" else ()


def _log(level: str) -> None:
    """One line for each event on stderr: for people at a terminal, JSON anywhere else."""
    number = logging.getLevelNamesMapping()[level]
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
            structlog.processors.format_exc_info if not terminal else structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.getLogger("runyard").setLevel(number)
