"""``runyard up``: the whole stack on one machine, until Ctrl-C.

The embedded store first, then web, workers and Flower as the child processes of the Procfile, told where everything
is by their environment. What crashes is started again. Ctrl-C and SIGTERM stop it from the outside in: web,
workers (which drain), Flower, and the store when nobody writes any more. A second Ctrl-C kills.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from runyard.app.auth.ways import asks_who
from runyard.app.exit_codes import ExitCode
from runyard.app.place import Place, PortInUse, flower_port, free_port, in_url, refuse_open_host
from runyard.app.processes import FLOWER, PROCESSES, WEB, WORKER, WORKER_CPU, Process
from runyard.app.store_keeper import StoreKeeper
from runyard.app.supervisor import Program, Supervisor
from runyard.app.terminal import Terminal
from runyard.engine.errors import ConfigError, EngineError, StoreUnavailable
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.data_dir import DataDirInUse
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.meta import check_keys, encryption, keys_of
from runyard.graphs.errors import GraphConfigError
from runyard.graphs.project import load_project

#: Web first, so that nothing new comes in; all workers at once; the store, which all of them need, after all of them.
STOP_ORDER = ((WEB,), (WORKER, WORKER_CPU), (FLOWER,))
#: A child that crashes this often before anything worked will not get better by itself.
CRASHES_BEFORE_GIVING_UP = 3


#: What the ``drain_s`` of the processes was chosen for.
DEFAULT_DRAIN_S = Settings().drain_s


class NotReady(EngineError):
    """The processes were started and did not become ready."""

    code = "not_ready"


@dataclass(frozen=True)
class UpOptions:
    """``port`` and ``flower_port`` 0: a free one. ``redis_url`` None: start the embedded store on ``data``."""

    config: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8123
    flower_port: int | None = None
    data: Path = Path(".runyard")
    redis_url: str | None = None
    json: bool = False
    ready_timeout_s: float = 60.0
    workers: int = 1


class Stop:
    """Counts the requests to stop. The first drains, a second one kills."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, *_: object) -> None:
        self.requests += 1

    def asked(self) -> bool:
        return self.requests > 0

    def hurry(self) -> bool:
        return self.requests > 1

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        # A closed terminal (SIGHUP) is a Ctrl-C from somebody who has gone.
        before = {signum: signal.signal(signum, self) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def up(options: UpOptions) -> int:
    """Run the stack until a signal says stop; gives the exit code. Whatever it gives, nothing is left running."""
    as_json = os.environ.get("RUNYARD_LOG_FORMAT") == "json"
    names = [name for process in PROCESSES for name in _names(process, options.workers)]
    terminal = Terminal(sys.stderr, names, as_json=as_json)
    try:
        with Stop().listening() as stop:
            _run(options, terminal, stop)
    except EngineError as problem:
        _report(problem, options, terminal)
        return _exit_code(problem)
    return ExitCode.OK


def _run(options: UpOptions, terminal: Terminal, stop: Stop) -> None:
    settings = Settings.from_env(os.environ)
    if not asks_who(settings, options.config):
        refuse_open_host(options.host)
    check_webhooks(settings, options.config)
    port = free_port(options.host, options.port)
    with _store(options, terminal) as store:
        place = Place(
            host=options.host,
            port=port,
            flower_port=flower_port(options.flower_port),
            redis_url=store.url if store else str(options.redis_url),
            data=store.data_dir if store else None,
        )
        check_encryption(settings, place.redis_url)
        _run_on(place, options, terminal, stop, store)


def check_webhooks(settings: Settings, config: Path | None) -> None:
    """ConfigError for what a project says wrong about webhooks, which web and workers would refuse to start with."""
    with contextlib.suppress(GraphConfigError):  # theirs to tell, and `runyard doctor`'s
        if (project := load_project(config)).webhooks:
            from runyard.engine.webhooks import WebhookPolicy  # noqa: PLC0415 - it takes LangGraph along, which is slow

            WebhookPolicy.of(project.webhooks, settings, os.environ)


def check_encryption(settings: Settings, redis_url: str) -> None:
    """ConfigError for a store that no process would start on, since it needs a key that is missing.

    One that is away is waited for by the processes.
    """
    keys = keys_of(settings)
    store = SyncStore.connect(redis_url, retry_s=0.5, vault=keys.vault)
    try:
        with contextlib.suppress(StoreUnavailable):
            check_keys(keys.vault, store.do(encryption(keys)))
    finally:
        store.close()


def _run_on(place: Place, options: UpOptions, terminal: Terminal, stop: Stop, store: EmbeddedServer | None) -> None:
    keeper = StoreKeeper(store, terminal.say) if store else None
    supervisor = Supervisor(
        programs(place, options.config, workers=options.workers), show=terminal.show, say=terminal.say
    )
    try:
        supervisor.start()
        _turn_until_ready(supervisor, place, stop, options.ready_timeout_s)
        if not stop.asked():
            _announce(place, options)
        while not stop.asked():
            supervisor.turn()
            if keeper:
                keeper.look_after()
    finally:
        terminal.say("stopping: web, then workers when they have drained, Flower, the store. Ctrl-C again kills.")
        supervisor.stop(stop_order(options.workers), hurry=stop.hurry)


def programs(
    place: Place, config: Path | None, base: Mapping[str, str] = os.environ, *, workers: int = 1
) -> list[Program]:
    """The Procfile's lines as children with one environment. A shell expands the variables, then is replaced.

    Raises ConfigError for a setting that no child would start with. Workers set to drain for longer get longer.
    """
    env = {
        **base,
        # gunicorn and celery are those of this interpreter, also when its environment is not activated.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        # Their lines end where this process prints: a person reads words there.
        **({"RUNYARD_LOG_FORMAT": "console"} if sys.stdout.isatty() and "RUNYARD_LOG_FORMAT" not in base else {}),
        "REDIS_URL": place.redis_url,
        "RUNYARD_HOST": in_url(place.host),
        "RUNYARD_PORT": str(place.port),
        "FLOWER_PORT": str(place.flower_port),
    }
    if config is not None:
        env["RUNYARD_CONFIG"] = str(config.absolute())
    spare_s = max(0.0, Settings.from_env(env).drain_s - DEFAULT_DRAIN_S)
    return [
        Program(name, ["/bin/sh", "-c", f"exec {process.command}"], env, process.drain_s + spare_s)
        for process in PROCESSES
        for name in _names(process, workers)
    ]


def stop_order(workers: int) -> list[list[str]]:
    """The names of the children that are stopped together, one lot after the other."""
    return [[name for process in lot for name in _names(process, workers)] for lot in STOP_ORDER]


def _names(process: Process, workers: int) -> list[str]:
    """What the children of a line are called: there may be several workers."""
    more = range(2, workers + 1) if process is WORKER else ()
    return [process.name, *(f"{process.name}-{number}" for number in more)]


@contextlib.contextmanager
def _store(options: UpOptions, terminal: Terminal) -> Iterator[EmbeddedServer | None]:
    if options.redis_url:
        yield None
        return
    server = EmbeddedServer(options.data)
    terminal.say(f"starting the store in {server.data_dir}")
    with server:
        yield server


def _turn_until_ready(supervisor: Supervisor, place: Place, stop: Stop, timeout_s: float) -> None:
    """Comes back when /readyz says yes, or a stop was asked for; NotReady says what stood in the way."""
    deadline = time.monotonic() + timeout_s
    while not stop.asked():
        supervisor.turn_for(0.1)
        _give_up_on_crashes(supervisor)
        answer = _ask_ready(place)
        if answer is None:
            return
        if time.monotonic() > deadline:
            raise NotReady(f"Not ready after {timeout_s:g} s. {place.url}/readyz: {answer}")


def _give_up_on_crashes(supervisor: Supervisor) -> None:
    for name, child in supervisor.children.items():
        if child.crashes >= CRASHES_BEFORE_GIVING_UP:
            raise NotReady(f"{name} crashed {child.crashes} times while starting; see its lines above.")


def _ask_ready(place: Place) -> str | None:
    """None when everything is ready, else what /readyz said."""
    connection = http.client.HTTPConnection(place.reached_at, place.port, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        text = response.read(1000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as exc:
        return f"{type(exc).__name__}: {exc}"
    finally:
        connection.close()
    return None if response.status == http.HTTPStatus.OK else f"{response.status} {text}"


def _announce(place: Place, options: UpOptions) -> None:
    facts = place.facts()
    if options.json:
        text = json.dumps({"event": "ready", **facts})
    else:
        rows = "\n".join(f"  {name:<8}{value}" for name, value in facts.items())
        text = f"\nRunyard is ready.\n\n{rows}\n\n  Ctrl-C drains and stops everything.\n"
    with contextlib.suppress(OSError):  # as in Terminal: nobody reads, and the work goes on
        click.echo(text)


def _report(problem: EngineError, options: UpOptions, terminal: Terminal) -> None:
    terminal.say(str(problem))
    if options.json:
        click.echo(json.dumps({"event": "failed", "code": problem.code, "message": str(problem)}))


def _exit_code(problem: EngineError) -> ExitCode:
    codes: dict[type[EngineError], ExitCode] = {
        PortInUse: ExitCode.PORT_IN_USE,
        DataDirInUse: ExitCode.DATA_DIR_IN_USE,
        NotReady: ExitCode.NOT_READY,
        ConfigError: ExitCode.CONFIG,
    }
    return next((code for kind, code in codes.items() if isinstance(problem, kind)), ExitCode.FAILED)


@click.command("up")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="langgraph.json to serve.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the API listens on.")
@click.option("--port", default=8123, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--flower-port", type=click.IntRange(0, 65535), envvar="FLOWER_PORT", help="Default: 5555 or a free one.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".runyard"),
    show_default=True,
    help="Folder of the embedded store; kept between starts.",
)
@click.option("--redis-url", envvar="REDIS_URL", help="Use this store and start none.")
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="As many as there are cores use them all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what happens as JSON lines; logs go to stderr either way.")
def up_command(as_json: bool, **options: Any) -> None:
    """Run the whole stack on this machine: store, web, workers, Flower."""
    sys.exit(up(UpOptions(json=as_json, **options)))


if __name__ == "__main__":
    up_command()
