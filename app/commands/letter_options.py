"""What people type about dead letters: which are meant, and how to repair them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from runyard.app.commands.values import Json
from runyard.engine.letter import Filter, Repair

F = TypeVar("F", bound=Callable[..., Any])

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")


class Duration(click.ParamType[float]):
    """A span of time, in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        read = _DURATION.fullmatch(value)
        if not read:
            self.fail(f"{value!r} is not a span of time, like 90s, 15m, 1h or 2d", param, ctx)
        return float(read[1]) * _SECONDS[read[2]]


class ByNode(click.ParamType[tuple[str, Any]]):
    """``NODE=TEXT``, or ``NODE=JSON`` in any form that JSON may be given."""

    def __init__(self, what: str, *, as_json: bool = False) -> None:
        self.name = f"NODE={what}"
        self._json = Json() if as_json else None

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        node, sign, given = value.partition("=")
        if not (node and sign and given):
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return node, self._json.convert(given, param, ctx) if self._json else given


_FILTERS = (
    click.option("--graph", help="Runs of this graph."),
    click.option("--node", help="This node failed."),
    click.option("--fingerprint", help="The same kind of failure, as `list` shows it."),
    click.option("--graph-version", help="Runs of this version of a graph, as `show` shows it."),
    click.option("--older-than", type=Duration(), help="Failed at least so long ago: 90s, 15m, 1h, 2d."),
    click.option("--younger-than", type=Duration(), help="Failed less than so long ago."),
)

_REPAIRS = (
    click.option("--set", "values", type=Json(only_object=True), help="Write this into the state first."),
    click.option(
        "--as-node", metavar="NODE", help="The node that is to have written --set; the run goes on behind it."
    ),
    click.option(
        "--output", "outputs", type=ByNode("JSON", as_json=True), multiple=True, help="What a failed node returned."
    ),
    click.option("--skip", metavar="NODE", multiple=True, help="Take a failed node to have returned nothing."),
    click.option("--goto", type=ByNode("TARGET"), multiple=True, help="Go on at TARGET instead of a failed node."),
    click.option("--accept-change", is_flag=True, help="Go on although the graph has lost the nodes that were next."),
)


def filter_options(command: F) -> F:
    """Which dead letters are meant; the command is handed them as ``wanted``."""

    @functools.wraps(command)
    def filtered(
        *args: Any, graph: str | None, node: str | None, fingerprint: str | None, graph_version: str | None,
        older_than: float | None, younger_than: float | None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        wanted = Filter(
            graph_id=graph, node=node, fingerprint=fingerprint, graph_fingerprint=graph_version,
            older_than_s=older_than, younger_than_s=younger_than,
        )  # fmt: skip
        return command(*args, wanted=wanted, **kwargs)

    return _with(filtered, _FILTERS)  # type: ignore[no-any-return]


def repair_options(command: F) -> F:
    """What is to be changed before a replay; the command is handed it as ``repair``."""

    @functools.wraps(command)
    def repaired(
        *args: Any, values: dict[str, Any] | None, as_node: str | None, outputs: tuple[tuple[str, Any], ...],
        skip: tuple[str, ...], goto: tuple[tuple[str, str], ...], accept_change: bool, **kwargs: Any,
    ) -> Any:  # fmt: skip
        repair = Repair(
            values=values, as_node=as_node, output=dict(outputs) or None, skip=skip, goto=dict(goto) or None,
            accept_change=accept_change,
        )  # fmt: skip
        return command(*args, repair=repair, **kwargs)

    return _with(repaired, _REPAIRS)  # type: ignore[no-any-return]


def _with(command: Any, options: tuple[Callable[[Any], Any], ...]) -> Any:
    for option in reversed(options):
        command = option(command)
    return command
