"""``runyard``: the command line. A table of commands, each loaded when it is called."""

from __future__ import annotations

import importlib
import io
import json
import logging
import sys
from collections.abc import Sequence

import click
import structlog
from click.exceptions import NoArgsIsHelpError

from runyard.app.exit_codes import ExitCode

#: name -> where the command is, and its sentence in ``runyard --help``, so that help loads none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("runyard.app.up:up_command", "Run the whole stack on this machine: store, web, workers, Flower."),
    "demo": ("runyard.app.commands.demo:demo", "Answer a question about your documents with the whole stack, live."),
    "run": ("runyard.app.commands.run:run", "Start a run of GRAPH and wait for its result."),
    "resume": ("runyard.app.commands.run:resume", "Answer a run that waits for a person, and wait for its result."),
    "status": ("runyard.app.commands.runs:status", "Say where RUN stands."),
    "wait": ("runyard.app.commands.runs:wait", "Wait until RUN has ended, and print its result."),
    "events": ("runyard.app.commands.events:events", "Print what RUN has told: nodes, updates, progress."),
    "records": ("runyard.app.commands.records:records", "Print every attempt, call and decision of RUN."),
    "why": ("runyard.app.commands.records:why", "Say in plain words why RUN is where it is, and what to do."),
    "partial": ("runyard.app.commands.partial:partial", "Show what each node of RUN has produced so far."),
    "dead-letters": (
        "runyard.app.commands.dead_letters:dead_letters",
        "Find, understand and repair runs that failed for good.",
    ),
    "webhooks": (
        "runyard.app.commands.webhooks:webhooks",
        "See which webhooks are owed or were given up, and send them anew.",
    ),
    "notices": (
        "runyard.app.commands.notices:notices",
        "See which notices are owed or were given up, and try whether they arrive.",
    ),
    "crons": ("runyard.app.commands.crons:crons", "See which runs are started on a schedule, and stop that."),
    "circuits": (
        "runyard.app.commands.circuits:circuits",
        "See the circuits of the fleet, and keep them open or closed.",
    ),
    "cancel": ("runyard.app.commands.runs:cancel", "Ask for the end of RUN."),
    "graphs": ("runyard.app.commands.graphs:graphs", "List the graphs, or show the nodes and edges of GRAPH."),
    "crash-test": (
        "runyard.app.commands.crash_test:crash_test",
        "Kill the worker at every point of a run of GRAPH, and say what ran twice.",
    ),
    "encryption": ("runyard.app.commands.encryption:encryption", "Encrypt what the store keeps, and change the key."),
    "keys": ("runyard.app.commands.keys:keys", "Make, rotate and revoke the API keys of clients."),
    "doctor": ("runyard.app.commands.doctor:doctor", "Say what is wrong with this set-up, and what to do."),
    "flower": (
        "runyard.app.commands.flower:flower",
        "Show the queue in a browser: which wake-ups there are, and what came of them.",
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for by name."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="runyard", prog_name="runyard", message="%(prog)s %(version)s")
def cli() -> None:
    """Runyard runs LangGraph graphs durably: submit, watch, repair.

    Every command takes --json and says by its exit code what happened; see docs/cli.md.
    """
    # What the engine logs as it does its work is for processes that stay; a person is told by the command.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Always leaves through ``sys.exit``."""
    _keep_logs_off_stdout()
    _print_whatever_comes()
    try:
        result = cli(arguments, prog_name="runyard", standalone_mode=False)
    except click.ClickException as problem:
        _tell(problem, as_json="--json" in (sys.argv[1:] if arguments is None else arguments))
        sys.exit(problem.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.STOPPED_BY_USER)
    sys.exit(result if isinstance(result, int) else ExitCode.OK)


def _tell(problem: click.ClickException, *, as_json: bool) -> None:
    """One line for a command line that is wrong; other problems tell themselves."""
    if not isinstance(problem, click.UsageError) or isinstance(problem, NoArgsIsHelpError):
        problem.show()
    elif as_json:
        click.echo(json.dumps({"error": "usage", "message": problem.format_message()}), err=True)
    else:
        command = problem.ctx.command_path if problem.ctx else "runyard"
        click.echo(f"error: {problem.format_message()}  (see {command} --help)", err=True)


def _keep_logs_off_stdout() -> None:
    # What a command prints is for pipes; what libraries and the engine log is for the person.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def _print_whatever_comes() -> None:
    # A graph's text in a terminal that knows no such letters is a question mark, not a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
