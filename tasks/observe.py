"""What a process says about itself: its log, and the errors nobody expected. Called once, where a process is wired."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from runyard.engine import redact
from runyard.engine.ledger import Sink
from runyard.engine.ledger_metrics import take_record
from runyard.engine.record import About
from runyard.engine.settings import Settings

if TYPE_CHECKING:  # it needs LangGraph, which not all do that have a log
    from runyard.engine.worker import OnDeath

Json = MutableMapping[str, Any]
#: Tracebacks are longer than anything else in a log.
MOST_TEXT = 20_000
#: How long lines that are no warning may wait to be written together, and how many.
HOLD_S, MOST_HELD = 0.1, 64
#: Loggers of servers that bring handlers of their own.
_SERVERS = ("celery", "celery.task", "celery.worker", "gunicorn.error", "gunicorn.access", "flower", "tornado")
_LEVELS = logging.getLevelNamesMapping()


def observe(settings: Settings) -> None:
    """Set up the log and, with ``SENTRY_DSN``, Sentry."""
    log_to_stdout(settings)
    if settings.sentry_dsn:
        from runyard.tasks import sentry  # noqa: PLC0415 - 2 MB of a process that does without it

        sentry.begin(settings.sentry_dsn)


def report(error: BaseException) -> None:
    """Tell Sentry of a failure that nobody expected, where somebody has set it up: who did has loaded it."""
    if "sentry_sdk" in sys.modules:
        from runyard.tasks import sentry  # noqa: PLC0415

        sentry.report(error)


def on_death(settings: Settings) -> tuple[OnDeath, ...]:
    """Who is told of every run that has become a dead letter, by the settings."""
    if not settings.sentry_dsn:
        return ()
    from runyard.tasks import sentry  # noqa: PLC0415

    return (sentry.report_run,)


def sinks(settings: Settings) -> tuple[Sink, ...]:
    """Who is told of every record of the ledger, by the settings."""
    wanted: list[Sink] = [take_record] if settings.metrics == "on" else []
    if settings.log_records == "on" and level_of("runyard.records", settings) <= logging.INFO:
        wanted.append(_print_record if is_json(settings) else _show_record)
    return tuple(wanted)


def log_to_stdout(settings: Settings) -> None:
    """One line for each thing that is logged, ours and libraries', on stdout: JSON, or words at a terminal."""
    json = is_json(settings)
    levels = {name: _LEVELS[level] for name, level in settings.log_levels_by_name.items()}
    structlog.configure(
        processors=[
            _Modules(_LEVELS[settings.log_level], levels),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=json),
            structlog.processors.format_exc_info,
            without_secrets,
            _rendered(settings),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(min([_LEVELS[settings.log_level], *levels.values()])),
        logger_factory=_Output,
        cache_logger_on_first_use=True,
    )
    _take_in_libraries(settings, levels)
    _take_in_the_uncaught()


def say_at_once(words: str, settings: Settings) -> None:
    """A line from a signal handler, where no lock may be waited for: whoever holds it cannot go on."""
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=is_json(settings))(None, "info", {"event": words})
    line = _rendered(settings)(None, "info", {"level": "info", **stamped})
    with suppress(OSError):
        os.write(1, (line.encode(errors="replace") if isinstance(line, str) else line) + b"\n")


def is_json(settings: Settings) -> bool:
    return settings.log_format == "json" or (settings.log_format == "auto" and not sys.stdout.isatty())


def level_of(name: str, settings: Settings) -> int:
    """The level of a logger: of the longest name in RUNYARD_LOG_LEVELS that it is below."""
    return _level(name, _LEVELS[settings.log_level], {k: _LEVELS[v] for k, v in settings.log_levels_by_name.items()})


def _level(name: str, default: int, levels: Mapping[str, int]) -> int:
    above = [known for known in levels if name == known or name.startswith(f"{known}.")]
    return levels[max(above, key=len)] if above else default


def without_secrets(_: Any, __: str, event: Json) -> Json:
    """Leave out what must not be shown, whoever logged it."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact.HIDDEN if value and redact.hides(name) else redact.text(value, MOST_TEXT)
        elif not isinstance(value, (int, float, type(None))):
            event[name] = redact.HIDDEN if redact.hides(name) else redact.plain(value)
    return event


class _Modules:
    """Lets pass what the level of its module does."""

    def __init__(self, default: int, levels: Mapping[str, int]) -> None:
        self._default, self._levels = default, levels
        self._known: dict[str, int] = {}

    def __call__(self, logger: Any, method: str, event: Json) -> Json:
        name = getattr(logger, "name", "")
        if name not in self._known:
            self._known[name] = _level(name, self._default, self._levels)
        if _LEVELS[{"exception": "ERROR", "warn": "WARNING"}.get(method, method.upper())] < self._known[name]:
            raise structlog.DropEvent
        if name:
            event["logger"] = name
        return event


class _Pipe:
    """Standard output, in whole lines: processes share it.

    A line costs a system call, and in a process of many threads a turn at the interpreter's lock. What goes as it
    should is held for a moment, to be told together, or with what does not; a process that is killed takes it along,
    and the run and its ledger have it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[bytes] = []
        self._some = threading.Event()
        self._lets_go = False

    def write(self, line: bytes) -> None:
        with self._lock:
            self._out(line)

    def hold(self, line: bytes) -> None:
        with self._lock:
            if not self._lets_go:
                self._lets_go = True
                threading.Thread(target=self._let_go, name="log", daemon=True).start()
            self._held.append(line)
            if len(self._held) >= MOST_HELD:
                self._out(b"")
            elif len(self._held) == 1:
                self._some.set()

    def flush(self) -> None:
        with self._lock:
            if self._held:
                self._out(b"")

    def fork(self) -> None:
        """In a child: threads do not outlive a fork, and whoever had the lock is not there to give it back. What was
        held is the parent's to tell."""
        self._lock, self._held, self._some, self._lets_go = threading.Lock(), [], threading.Event(), False

    def _let_go(self) -> None:
        while True:
            self._some.wait()
            time.sleep(HOLD_S)
            self._some.clear()
            with suppress(ValueError, OSError, AttributeError):  # standard output was closed, or replaced: a test
                self.flush()

    def _out(self, line: bytes) -> None:
        held, self._held = self._held, []
        sys.stdout.buffer.write(b"".join([*held, line]))
        sys.stdout.buffer.flush()


_pipe = _Pipe()
atexit.register(_pipe.flush)
os.register_at_fork(after_in_child=_pipe.fork)


class _Output:
    """Where structlog's loggers write."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name = name

    def msg(self, line: str | bytes) -> None:
        try:
            _pipe.write(_whole(line))
        except AttributeError:  # somebody put a stream without bytes there: a test, a notebook
            print(_whole(line).decode(), end="")  # noqa: T201 - it is what was asked for

    def info(self, line: str | bytes) -> None:
        if hasattr(sys.stdout, "buffer"):
            _pipe.hold(_whole(line))
        else:
            self.msg(line)

    debug = info
    log = warn = warning = error = exception = critical = fatal = msg


class _Text:
    """The same for text, which logging's handlers write."""

    def write(self, text: str) -> None:
        try:
            _pipe.write(text.encode(errors="replace"))
        except AttributeError:
            sys.stdout.write(text)

    def flush(self) -> None:
        """A line is out once it is written."""


def _whole(line: str | bytes) -> bytes:
    return (line.encode(errors="replace") if isinstance(line, str) else line) + b"\n"


def _rendered(settings: Settings) -> Any:
    return _to_json if is_json(settings) else structlog.dev.ConsoleRenderer()


def _to_json(_: Any, __: str, event: Json) -> bytes:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)


def _take_in_libraries(settings: Settings, levels: Mapping[str, int]) -> None:
    """Celery's, gunicorn's and all other libraries' words through the same pipe."""
    handler = logging.StreamHandler(_Text())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=is_json(settings)),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                without_secrets,
                _AsText(_rendered(settings)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Of libraries a person wants to know what went wrong; their ordinary words only when asked for by name.
    root.setLevel(max(_LEVELS[settings.log_level], logging.WARNING))
    for name in _SERVERS:
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [], True
    logging.getLogger("gunicorn.error").setLevel(_LEVELS[settings.log_level])
    logging.getLogger("runyard").setLevel(_LEVELS[settings.log_level])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)


def _take_in_the_uncaught() -> None:
    """What nobody caught is told in the same form; Python would print it to stderr in one of its own."""

    def uncaught(kind: type[BaseException], error: BaseException | None, _: Any, thread: str = "") -> None:
        if issubclass(kind, KeyboardInterrupt) or error is None:
            return
        structlog.get_logger(__name__).critical("uncaught", exc_info=error, **({"thread": thread} if thread else {}))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            uncaught(args.exc_type, args.exc_value, args.exc_traceback, args.thread.name if args.thread else "?")

    sys.excepthook, threading.excepthook = uncaught, in_thread


class _AsText:
    """A renderer whose lines are text, as logging's handlers want them."""

    def __init__(self, render: Any) -> None:
        self._render = render

    def __call__(self, logger: Any, method: str, event: Json) -> str:
        line = self._render(logger, method, event)
        return line.decode() if isinstance(line, bytes) else str(line)


def _print_record(about: About, record: Mapping[str, Any], packed: bytes) -> None:
    """A record as a line: it is JSON already, and redacted, so the run's ids are put before it and no more."""
    # A record's instant is a number and of its beginning; a line's is text, and of its writing, like all lines'.
    said = packed[1:].replace(b'"timestamp":', b'"began_ms":', 1)
    at = datetime.now(UTC).isoformat(timespec="microseconds").encode()
    _pipe.hold(
        b'{"event":"node.%b","level":"info","timestamp":"%b",%b,%b\n' % (record["kind"].encode(), at, about.head, said)
    )


def _show_record(about: About, record: Mapping[str, Any], _: bytes) -> None:
    wanted = ("node", "tool", "attempt", "status", "latency_ms", "decision", "error")
    said = {name: record[name] for name in wanted if record.get(name) is not None}
    structlog.get_logger("runyard.records").info(f"node.{record['kind']}", run_id=about.run_id, **said)
