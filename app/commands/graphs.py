"""The graphs of a project: ``runyard graphs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from runyard.app.commands import shown
from runyard.app.commands.picture import draw
from runyard.app.commands.problem import Problem, json_option
from runyard.app.commands.project import known_graph, open_project, project_option
from runyard.app.exit_codes import ExitCode
from runyard.graphs.errors import GraphBroken
from runyard.graphs.registry import Graph, Project, Registry


@click.command()
@click.argument("graph", required=False)
@click.option("--mermaid", is_flag=True, help="Print GRAPH as a Mermaid diagram.")
@project_option
@json_option
def graphs(graph: str | None, mermaid: bool, project: Path | None, as_json: bool) -> int:
    """List the graphs, or show the nodes and edges of GRAPH.

    Every graph is loaded here to tell whether it can be; what is broken is told with its cause.
    """
    opened = open_project(project)
    if graph is None:
        _list(opened, as_json=as_json)
        return ExitCode.OK
    known_graph(opened, graph)
    try:
        with Registry(opened).open(graph) as loaded:
            _show(opened, graph, loaded, mermaid=mermaid, as_json=as_json)
    except GraphBroken as broken:
        raise Problem(str(broken), ExitCode.FAILED, code="graph_broken") from broken
    return ExitCode.OK


def _list(project: Project, *, as_json: bool) -> None:
    broken = Registry(project).check_all()
    found = [{**_facts(project, graph_id), "problem": str(why) if why else None} for graph_id, why in broken.items()]
    if as_json:
        shown.print_json({"project": str(project.root), "warnings": project.warnings, "graphs": found})
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for graph in found:
        mark = Text("✘", "red") if graph["problem"] else Text("✔", "green")
        said = Text(graph["problem"], "red") if graph["problem"] else Text(graph["description"] or "")
        table.add_row(mark, Text(graph["graph_id"], "bold"), said)
    shown.console().print(table)
    for warning in project.warnings:
        click.echo(f"note: {warning}", err=True)


def _show(project: Project, graph_id: str, graph: Graph, *, mermaid: bool, as_json: bool) -> None:
    drawn = graph.get_graph()
    if as_json:
        shown.print_json({
            **_facts(project, graph_id),
            "nodes": list(drawn.nodes),
            "edges": [{"source": e.source, "target": e.target, "conditional": e.conditional} for e in drawn.edges],
            "mermaid": drawn.draw_mermaid(),
        })  # fmt: skip
        return
    if mermaid:
        click.echo(drawn.draw_mermaid())
        return
    out = shown.console()
    facts = _facts(project, graph_id)
    out.print(Text(graph_id, "bold"), Text(facts["description"] or "", "dim"), soft_wrap=True)
    out.print(Text(f"{facts['path']}:{facts['attribute']}", "dim"), "", soft_wrap=True)
    for line in draw(drawn):
        out.print(f"  {line}", markup=False, soft_wrap=True)
    out.print(Text("\n  ┄ one of several ways    ↑ drawn above", "dim"))


def _facts(project: Project, graph_id: str) -> dict[str, Any]:
    spec = project.graphs[graph_id]
    return {"graph_id": graph_id, "description": spec.description, "path": spec.path, "attribute": spec.attribute}
