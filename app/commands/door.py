"""The door to the engine: which store a command speaks to.

Commands call the engine's Service on the store itself, so they work while the web is down.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runyard.app.commands.problem import Problem, json_option
from runyard.app.exit_codes import ExitCode
from runyard.engine.run import Phase, Run, Wake
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.meta import keys_of, open_store

if TYPE_CHECKING:
    from runyard.tasks.wake import Waker

F = TypeVar("F", bound=Callable[..., Any])

NO_STORE = "no store: set REDIS_URL or start `runyard up` (in this folder, or name its --data folder)"
#: A person waits at the terminal: a store that is away is told soon.
RETRY_S = 1.0


@dataclass(frozen=True)
class Door:
    """What a command needs of the engine."""

    settings: Settings
    service: Service


def store_options(command: F) -> F:
    """The options of every command that asks the engine; errors are told by exit codes."""
    options = (
        click.option("--redis-url", envvar="REDIS_URL", help="The store. Default: that of `runyard up` on --data."),
        click.option(
            "--data",
            type=click.Path(file_okay=False, path_type=Path),
            default=Path(".runyard"),
            show_default=True,
            help="Data folder of a `runyard up` on this machine.",
        ),
    )
    wrapped: Any = json_option(command)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def read_settings(redis_url: str | None, data: Path) -> Settings:
    """The settings of this environment, with the store that was found, if any. Raises ConfigError."""
    return Settings.from_env(os.environ, redis_url=redis_url or local_store(data) or "")


def local_store(data: Path) -> str | None:
    """The URL of the store that a ``runyard up`` has started on ``data``, or None."""
    # Where the folder's path is too long for a socket, a link there leads to it.
    socket = (data / "store.sock").resolve()
    return f"unix://{socket}" if socket.is_socket() else None


def open_door(redis_url: str | None, data: Path) -> Door:
    """Connect, and check that the store is ours. Raises Problem, ConfigError or StoreUnavailable."""
    settings = read_settings(redis_url, data)
    if not settings.redis_url:
        raise Problem(NO_STORE, ExitCode.UNAVAILABLE, code="no_store")
    keys = keys_of(settings)
    store = SyncStore.connect(settings.redis_url, retry_s=RETRY_S, max_connections=8, vault=keys.vault)
    open_store(store, keys)
    return Door(settings, Service(store, keys, settings, partial(_wake, cache(partial(_waker, settings)))))


def _waker(settings: Settings) -> Waker:
    # Loads Celery, which most commands have no message for.
    from celery import Celery  # noqa: PLC0415

    from runyard.tasks.settings import celery_settings  # noqa: PLC0415
    from runyard.tasks.wake import Waker  # noqa: PLC0415

    broker = Celery("runyard", set_as_current=False)
    broker.config_from_object(celery_settings(settings))
    return Waker(broker)


def _wake(waker: Callable[[], Waker], wakes: Sequence[Wake]) -> None:
    if wakes:
        waker()(wakes)


def exit_code_of(run: Run) -> ExitCode:
    """What a run's end means to a script; a run that has not ended is a TIMEOUT."""
    return {
        Phase.SUCCEEDED: ExitCode.OK,
        Phase.PAUSED: ExitCode.PAUSED,
        Phase.FAILED: ExitCode.FAILED,
        Phase.TIMED_OUT: ExitCode.FAILED,
        Phase.CANCELLED: ExitCode.CANCELLED,
    }.get(run.phase, ExitCode.TIMEOUT)
