"""A closed loop of one graph under the eyes of the kernel, the store and py-spy."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench import workloads
from bench.doors import Door
from bench.measure import Rate, closed_loop, warm_up
from bench.samples import by_part
from bench.stack import Stack
from runyard.engine.store import scripts

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Profile:
    rate: Rate
    #: process -> ms of CPU for one run
    cpu_ms: dict[str, float]
    #: command -> (calls for one run, ms of the server for one run)
    commands: dict[str, tuple[float, float]]
    #: process -> part of the code -> share of the process's time
    parts: dict[str, dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    spy = options.py_spy or shutil.which("py-spy")
    print(text(asyncio.run(_profile(options, spy)), options.graph))
    if not spy:
        print("\nNo py-spy on PATH: `pip install py-spy` shows the parts of each process.", file=sys.stderr)
    return 0


async def _profile(options: argparse.Namespace, spy: str | None) -> Profile:
    with Stack(workers=options.workers) as stack:
        door = Door(stack.port)

        async def work() -> None:
            workloads.check(options.graph, await door.wait(options.graph))

        await warm_up(work, 100, clients=8)
        client = redis.Redis.from_url(stack.redis_url)
        client.config_resetstat()
        before = cpu_of(stack)
        rate = await closed_loop(work, clients=options.clients, seconds=options.seconds)
        after, said = cpu_of(stack), client.info("commandstats")
        cpu_ms = {name: (after[name] - ms) / rate.count for name, ms in before.items()}
        # Afterwards, because watching slows what is watched.
        parts = await _watched(stack, spy, options, work) if spy else {}
        by_script = await _scripts(client, work)
        await door.close()
        return Profile(rate, cpu_ms, {**_commands(said, rate.count), **by_script}, parts)


def text(profile: Profile, graph: str) -> str:
    lines = [f"{graph}: {profile.rate.per_s:.1f} runs/s", "", f"{'process':<24}{'CPU ms/run':>12}"]
    lines += [f"{name:<24}{ms:>12.2f}" for name, ms in profile.cpu_ms.items()]
    lines.append(f"{'all':<24}{sum(profile.cpu_ms.values()):>12.2f}")
    for name, shares in profile.parts.items():
        lines += ["", f"{name:<40}{'CPU ms/run':>12}{'share':>8}"]
        lines += [f"  {part:<38}{profile.cpu_ms[name] * share:>12.2f}{share:>8.0%}" for part, share in shares.items()]
    lines += ["", f"{'store command':<24}{'calls/run':>12}{'ms/run':>10}"]
    costly = sorted(profile.commands.items(), key=lambda item: -item[1][1])
    lines += [f"{name:<24}{calls:>12.1f}{ms:>10.3f}" for name, (calls, ms) in costly if calls >= 0.05]
    return "\n".join(lines)


def _commands(said: Any, runs: int) -> dict[str, tuple[float, float]]:
    return {
        name.removeprefix("cmdstat_"): (stats["calls"] / runs, stats["usec"] / 1000 / runs)
        for name, stats in said.items()
    }


def cpu_of(stack: Stack) -> dict[str, float]:
    """CPU time of each process and its children until now, in ms."""
    roots = {
        "store": stack.store_pid,
        **{name: child.pid for name, child in stack.children.items()},
        "client": os.getpid(),
    }
    of = {pid: stat(pid) for pid in pids()}
    return {
        name: sum(ms for pid, (parent, ms) in of.items() if pid == root or (name == "web" and parent == root))
        for name, root in roots.items()
    }


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def stat(pid: int) -> tuple[int, float]:
    """Parent and CPU time in ms; nothing for a process that has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return int(fields[1]), (int(fields[11]) + int(fields[12])) * _TICK_MS


async def _watched(
    stack: Stack, spy: str, options: argparse.Namespace, work: Callable[[], Awaitable[None]]
) -> dict[str, dict[str, float]]:
    """py-spy on a worker and on the web while the loop runs."""
    with tempfile.TemporaryDirectory(prefix="runyard-profile-") as folder:
        files = {name: Path(folder) / name for name in stack.children if name in ("worker0", "web")}
        spies = [_spy(spy, stack.children[name].pid, options.seconds, file) for name, file in files.items()]
        await closed_loop(work, clients=options.clients, seconds=options.seconds + 1)
        for process in spies:
            process.wait(60)
        return {name: by_part(file.read_text().splitlines()) for name, file in files.items() if file.exists()}


def _spy(spy: str, pid: int, seconds: float, file: Path) -> subprocess.Popen[bytes]:
    how = ["--subprocesses", "--gil", "--full-filenames", "--nonblocking", "--rate", "200", "--format", "raw"]
    command = [spy, "record", *how, "--duration", str(round(seconds)), "--pid", str(pid), "--output", str(file)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _scripts(client: redis.Redis, work: Callable[[], Awaitable[None]]) -> dict[str, tuple[float, float]]:
    """INFO counts all scripts as one; the slow log tells them apart when everything counts as slow."""
    runs, names = 50, script_names()
    client.config_set("slowlog-max-len", 100_000)
    client.config_set("slowlog-log-slower-than", 0)
    client.slowlog_reset()
    for _ in range(runs):
        await work()
    client.config_set("slowlog-log-slower-than", -1)
    calls: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for entry in client.slowlog_get(100_000):
        words = entry["command"].split()
        if words[0] == b"EVALSHA" and (name := names.get(words[1].decode())):
            calls[name] += 1
            spent[name] += entry["duration"]
    return {f"  {name}.lua": (calls[name] / runs, spent[name] / 1000 / runs) for name in calls}


def script_names() -> dict[str, str]:
    """SHA-1 -> name of every script of the store."""
    folder = Path(scripts.__file__).parent
    names = [path.stem for path in folder.glob("*.lua") if not path.stem.startswith("lib_")]
    return {scripts.script(name).sha: name for name in names}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/profile.py", description="Where a run's time goes.")
    parser.add_argument("--graph", default="chain10a", choices=sorted(workloads.GIVEN))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--py-spy", metavar="PATH", help="py-spy, if it is not on PATH")
    return parser.parse_args(arguments)
