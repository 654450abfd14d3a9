"""A graph whose input says what to do. Worker processes load a copy of this file as a user's project.

The input is ``{"name": …, "steps": [[action, …], …]}``: the actions of a step run side by side, the steps one after the
other, and ``results`` says what each action came to. An action is a dict: ``do`` is one of ``ok``, ``wait`` (``s``
seconds), ``spin`` (the same, on the CPU), ``gate`` (until the folder holds the file ``gate``; looks every ``pause_s``),
``raise``, ``ask`` (a person), ``kill`` (this process, with SIGKILL, the first ``times`` times). ``on`` names the node:
``io`` (async, the default), ``sync`` (a plain function), ``cpu`` (one on the queue of the prefork workers).

In a fleet, SCRIPTED_FOLDER names a folder: every execution is written to its log, and gates and kills work. Without it
nothing waits, and the same graph is plain LangGraph's answer to compare with.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

PAUSE_S = 0.01


class State(TypedDict, total=False):
    name: str
    steps: list[list[dict[str, Any]]]
    at: int
    results: Annotated[list[str], operator.add]


class Task(TypedDict):
    name: str
    step: int
    branch: int
    action: dict[str, Any]


def folder() -> Path | None:
    named = os.environ.get("SCRIPTED_FOLDER")
    return Path(named) if named else None


def note(task: Task, what: str) -> None:
    """One line in the log; an append of this size is not torn."""
    if place := folder():
        line = {**task, "action": task["action"]["do"], "what": what, "pid": os.getpid(), "at": time.time()}
        with (place / "log.jsonl").open("ab", buffering=0) as log:
            log.write(json.dumps(line).encode() + b"\n")


def is_open(action: dict[str, Any]) -> bool:
    place = folder()
    return place is None or (place / action["gate"]).exists()


def kill(task: Task) -> None:
    """Die the first ``times`` times; a file for each death remembers."""
    place = folder()
    for number in range(task["action"].get("times", 1) if place else 0):
        try:
            (place / f"{task['name']}-{task['step']}-{task['branch']}-{number}.died").touch(exist_ok=False)  # type: ignore[operator]
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)


def result(task: Task) -> State:
    """What is the same for all ways to run a task, once it has waited."""
    action = task["action"]
    answer = action["do"]
    if answer == "kill":
        kill(task)
    if answer == "raise":
        raise ValueError(f"told to fail at {task['step']}.{task['branch']}")
    if answer == "ask":
        answer = interrupt({"at": f"{task['step']}.{task['branch']}"})
    note(task, "end")
    return {"results": [f"{task['step']}.{task['branch']} {answer}"]}


async def io(task: Task) -> State:
    note(task, "start")
    action = task["action"]
    if action["do"] == "wait" and folder():
        await asyncio.sleep(action["s"])
    while action["do"] == "gate" and not is_open(action):  # noqa: ASYNC110 - whoever opens it is another process
        await asyncio.sleep(action.get("pause_s", PAUSE_S))
    return result(task)


def plain(task: Task) -> State:
    note(task, "start")
    action = task["action"]
    if action["do"] == "wait" and folder():
        time.sleep(action["s"])
    ends = time.monotonic() + (action.get("s", 0) if folder() else 0)
    while action["do"] == "spin" and time.monotonic() < ends:
        pass
    while action["do"] == "gate" and not is_open(action):
        time.sleep(action.get("pause_s", PAUSE_S))
    return result(task)


def turn(state: State) -> State:
    """The end of a step."""
    return {"at": state["at"] + 1, "results": [f"end of {state['at']}"]}


def begin(_: State) -> State:
    return {"at": 0, "results": []}


def actions(state: State) -> list[Send] | str:
    """The tasks of the next step, or the end."""
    at, steps = state["at"], state["steps"]
    if at == len(steps):
        return END
    return [
        Send(action.get("on", "io"), Task(name=state["name"], step=at, branch=branch, action=action))
        for branch, action in enumerate(steps[at])
    ]


def builder() -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("begin", begin)
    graph.add_node("io", io)
    graph.add_node("sync", plain)
    graph.add_node("cpu", plain, metadata={"runyard": {"queue": "cpu"}})
    graph.add_node("turn", turn)
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", actions, ["io", "sync", "cpu", END])
    graph.add_conditional_edges("turn", actions, ["io", "sync", "cpu", END])
    for name in ("io", "sync", "cpu"):
        graph.add_edge(name, "turn")
    return graph


scripted = builder().compile()
