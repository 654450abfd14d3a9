"""How a command tells what went wrong: one line on stderr and an exit code. Imports nothing heavy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click
import orjson

from runyard.app.exit_codes import ExitCode
from runyard.engine import errors
from runyard.graphs.errors import GraphsError

F = TypeVar("F", bound=Callable[..., Any])


class Problem(click.ClickException):
    """One line on stderr and an exit code; with ``--json`` one JSON document on stderr.

    ``log`` is what a person may want to read below the line: the end of a process's output.
    """

    def __init__(
        self, message: str, exit_code: ExitCode, *, code: str, log: Sequence[str] = (), as_json: bool = False
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance
        self.code, self.log, self.as_json = code, log, as_json

    def show(self, file: Any = None) -> None:
        if self.as_json:
            told = {"error": self.code, "message": self.message, **({"log": list(self.log)} if self.log else {})}
            click.echo(orjson.dumps(told), file=file, err=True)
            return
        click.echo(f"error: {' '.join(self.message.split())}", file=file, err=True)
        for line in self.log:
            click.echo(f"  {line}", file=file, err=True)


def json_option(command: F) -> F:
    """``--json``, and what goes wrong as one line and an exit code."""

    @functools.wraps(command)
    def told(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        try:
            return command(*args, as_json=as_json, **kwargs)
        except KeyboardInterrupt:
            raise SystemExit(ExitCode.STOPPED_BY_USER) from None
        except Problem as problem:
            problem.as_json = as_json
            raise
        except (errors.EngineError, GraphsError) as error:  # anything else is a bug and keeps its traceback
            raise_told(error, as_json=as_json)

    return click.option("--json", "as_json", is_flag=True, help="Print for programs: JSON, errors too.")(told)  # type: ignore[return-value]


def raise_told(error: errors.EngineError | GraphsError, *, as_json: bool) -> NoReturn:
    """Turn an error into a Problem: its text and its exit code."""
    exit_codes: dict[type[Exception], ExitCode] = {
        errors.NotFound: ExitCode.NOT_FOUND,
        errors.StoreUnavailable: ExitCode.UNAVAILABLE,
        errors.Conflict: ExitCode.CONFLICT,
        errors.ConfigError: ExitCode.CONFIG,
        GraphsError: ExitCode.CONFIG,
    }
    exit_code = next((code for kind, code in exit_codes.items() if isinstance(error, kind)), ExitCode.FAILED)
    name = error.code if isinstance(error, errors.EngineError) else "project_error"
    raise Problem(str(error), exit_code, code=name, as_json=as_json) from error
