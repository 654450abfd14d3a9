"""What runs that wait take in memory with LangGraph alone: ``python -m bench.growth.alone 5000`` prints kB for each.

A process of its own: what another measure has left in memory would be used again.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import uvloop
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from bench.growth.graphs import Called

ROOT = Path(__file__).resolve().parents[2]
#: Runs that are over before it is looked at: what a process takes once is none of the runs'.
_FIRST = 50


def kb_each(count: int) -> float:
    """``count`` runs of one node that waits, all at once, kept by LangGraph's memory saver."""
    command = [sys.executable, "-m", "bench.growth.alone", str(count)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return float(said.stdout)


async def _wait_at_once(count: int) -> float:
    inside, all_are_in, over = 0, asyncio.Event(), asyncio.Event()

    async def wait(_: Called) -> dict[str, Any]:
        nonlocal inside
        inside += 1
        if inside == _FIRST + count:
            all_are_in.set()
        if inside > _FIRST:
            await over.wait()
        return {"began": 0.0}

    graph = StateGraph(Called).add_node("wait", wait).add_edge(START, "wait").add_edge("wait", END)
    bound = graph.compile(checkpointer=InMemorySaver())

    async def run(number: int) -> None:
        config: RunnableConfig = {"configurable": {"thread_id": str(number)}}
        await bound.ainvoke({"wait_s": 1.0}, config, durability="sync")

    await asyncio.gather(*(run(number) for number in range(_FIRST)))
    before = _rss_kb()
    runs = [asyncio.create_task(run(_FIRST + number)) for number in range(count)]
    await all_are_in.wait()
    grown = _rss_kb() - before
    over.set()
    await asyncio.gather(*runs)
    return grown / count


def _rss_kb() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


if __name__ == "__main__":
    print(uvloop.run(_wait_at_once(int(sys.argv[1]))))
