"""What the page says of the machine and the versions; never a host name or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import redis

import keyferry

PROJECT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    cores: int
    memory_gib: float
    system: str


@dataclass(frozen=True, slots=True)
class Versions:
    server: str
    python: str
    redis_py: str
    keyferry: str
    commit: str
    date: str


def look_at_machine() -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(_cpu_model(), _cores(), memory / 2**30, f"{platform.system()} {platform.release()}")


def look_at_versions(server: str, keyferry_says: str) -> Versions:
    """``keyferry_says`` is the line of ``keyferry --version``; empty where the command does not run."""
    return Versions(
        server,
        f"{platform.python_implementation()} {platform.python_version()}",
        redis.__version__,
        keyferry_says or f"keyferry {keyferry.__version__}",
        _commit(),
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    return (
        f"{commit} with changes"
        if _git("status", "--porcelain", "--", "src", "bench", "setup.py")
        else commit
    )


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.decode("utf-8", "replace").strip() if result.returncode == 0 else ""
