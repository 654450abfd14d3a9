"""What LangGraph is given of a run: its input or answers, and its config."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from runyard.engine.run import Run

#: What the server says of who asked for a run. A client that says it too is not believed.
_OF_USER = frozenset({"langgraph_auth_user", "langgraph_auth_user_id", "langgraph_auth_permissions"})


def given(run: Run) -> Any:
    """What LangGraph is given: the request at first, nothing once it is in the state.

    A resume by interrupt id is never stored by LangGraph, so it is given again until the first checkpoint.
    """
    if run.entered == "checkpoint":
        return None
    command = run.request.command
    if run.entered == "writes":
        return answers(run)
    return _command(command) if command else run.request.input


def answers(run: Run) -> Any:
    """What a superstep that was begun by this run must be given again: answers by interrupt id, else nothing."""
    resume = (run.request.command or {}).get("resume") if run.entered != "checkpoint" else None
    return Command(resume=resume) if isinstance(resume, dict) and resume else None


def _command(command: dict[str, Any]) -> Command[Any]:
    goto = command.get("goto") or ()
    sends = [goto] if isinstance(goto, (str, dict)) else goto
    return Command(
        resume=command.get("resume"),
        update=command.get("update"),
        goto=[Send(item["node"], item.get("input")) if isinstance(item, dict) else item for item in sends],
    )


def _who(run: Run) -> dict[str, Any]:
    if run.user is None:
        return {}
    name, permissions = run.user.get("identity"), run.user.get("permissions", [])
    return {
        "langgraph_auth_user": dict(run.user),
        "langgraph_auth_user_id": name,
        "langgraph_auth_permissions": permissions,
        "user_id": name,
    }


def config_of(run: Run, recursion_limit: int) -> RunnableConfig:
    """The RunnableConfig of a run: the client's, with the ids that nodes and checkpoints are to know."""
    request = run.request
    ids = {"run_id": run.run_id, "thread_id": run.thread_id, "assistant_id": run.assistant_id, "graph_id": run.graph_id}
    given = {key: value for key, value in request.config.get("configurable", {}).items() if key not in _OF_USER}
    configurable = {**given, **_who(run), **ids}
    if request.checkpoint and run.entered != "checkpoint":
        wanted = {key: value for key, value in request.checkpoint.items() if key != "thread_id" and value is not None}
        configurable = {**configurable, **wanted}
    else:
        configurable.pop("checkpoint_id", None)
    config = RunnableConfig(
        run_name=request.config.get("run_name") or run.graph_id,
        tags=request.config.get("tags", []),
        metadata={**request.config.get("metadata", {}), **run.metadata, **ids},
        recursion_limit=request.config.get("recursion_limit") or recursion_limit,
        configurable=configurable,
    )
    if limit := request.config.get("max_concurrency"):
        config["max_concurrency"] = limit
    return config
