"""What the numbers were measured on: they mean nothing without it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runyard.engine.store.embedded import find_binary

_PACKAGES = (
    "langgraph",
    "langchain-core",
    "celery",
    "kombu",
    "redis",
    "hiredis",
    "gunicorn",
    "flask",
    "orjson",
    "runyard",
)
ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, str | int | float]:
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_1m_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    found = {"store": _said_by([str(find_binary()), "--version"])}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> dict[str, str | bool]:
    """What was measured: the commit, and whether the working tree differed from it."""
    changed = _said_by(["git", "-C", str(ROOT), "status", "--porcelain", "--", "app", "engine", "graphs", "tasks"])
    return {"commit": _said_by(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]), "changed": bool(changed)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _said_by(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except OSError:
        return ""
