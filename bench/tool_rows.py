"""Rows that run a tool as a process: the recipe, a redis-py loop, RedisShake, Keyferry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.child import Ended, run_tool
from bench.rows import REDIS_PY, REDISSHAKE_VARIABLE, Context
from bench.samples import BenchError, Work

HERE = Path(__file__).parent
VERSION_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """The bash loop, on a sample: one key takes it some 20 ms."""

    name: str = "recipe"
    title: str = "the recipe's bash loop (sample)"
    forks_source: bool = False

    def unavailable(self) -> str:
        missing = [program for program in ("bash", "redis-cli", "head") if shutil.which(program) is None]
        return f"not available here: {', '.join(missing)}" if missing else ""

    def arriving(self, context: Context) -> int:
        return min(context.sample_keys, context.keys)

    def run(self, context: Context) -> Work:
        arena, keys = context.arena, self.arriving(context)
        argv = ["bash", str(HERE / "recipe.sh"), str(arena.source.port), str(arena.target.port), str(keys)]
        ended = run_tool(argv, context.directory, context.timeout_s)
        return _work(ended, keys, None)


@dataclass(frozen=True, slots=True)
class RedisPy:
    """Pages of 1,000 keys, one pipeline for each server."""

    name: str = REDIS_PY
    title: str = "redis-py loop with pipelines"
    forks_source: bool = False

    def unavailable(self) -> str:
        return ""

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        arena = context.arena
        argv = [
            sys.executable,
            str(HERE / "redis_py_loop.py"),
            str(arena.source.port),
            str(arena.target.port),
        ]
        ended = run_tool(argv, context.directory, context.timeout_s)
        return _work(ended, context.keys, _last_json(ended.output))


@dataclass(frozen=True, slots=True)
class RedisShake:
    """Its scan reader with pages of 1,000 keys (as delivered it asks for one key per SCAN)."""

    name: str = "redisshake"
    title: str = "RedisShake, scan reader, count = 1000"
    forks_source: bool = False

    def unavailable(self) -> str:
        path = os.environ.get(REDISSHAKE_VARIABLE, "")
        if not path:
            return f"not measured: {REDISSHAKE_VARIABLE} names no binary"
        return "" if shutil.which(path) else f"not measured: {REDISSHAKE_VARIABLE} names no program"

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        arena = context.arena
        settings = context.directory / "shake.toml"
        settings.write_text(
            f'[scan_reader]\naddress = "127.0.0.1:{arena.source.port}"\n'
            "scan = true\nksn = false\ncount = 1000\n"
            f'[redis_writer]\naddress = "127.0.0.1:{arena.target.port}"\n'
            f'[advanced]\ndir = "{context.directory / "shake"}"\nlog_level = "warn"\n'
            'rdb_restore_command_behavior = "rewrite"\n'
        )
        # Absolute: it runs in another directory than ours.
        program = str(Path(shutil.which(os.environ[REDISSHAKE_VARIABLE]) or "").absolute())
        return _work(
            run_tool([program, str(settings)], context.directory, context.timeout_s), context.keys, None
        )


@dataclass(frozen=True, slots=True)
class Keyferry:
    """``keyferry copy``; ``implementation`` is what KEYFERRY_IMPL asks for."""

    name: str
    title: str
    implementation: str
    arguments: tuple[str, ...] = ()
    forks_source: bool = False

    def unavailable(self) -> str:
        try:
            keyferry_version(self.implementation)
        except BenchError as error:
            return f"not available here: {error}"
        return ""

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        arena = context.arena
        argv = [*keyferry_program(), "copy", arena.source.url, arena.target.url]
        argv += ["--json", "--state-dir", str(context.directory / "state"), *self.arguments]
        ended = run_tool(argv, context.directory, context.timeout_s, _environment(self.implementation))
        report = _last_json(ended.output)
        if report["failed"]:
            raise BenchError(f"keyferry says that {report['failed']} keys failed")
        return _work(ended, context.keys, report)


def keyferry_program() -> list[str]:
    """The ``keyferry`` command of this Python's environment."""
    script = Path(sys.executable).with_name("keyferry")
    return [str(script)] if script.exists() else [sys.executable, "-m", "keyferry.app.cli"]


def keyferry_version(implementation: str) -> str:
    """What ``keyferry --version`` says, on one line.

    Raises:
        BenchError: It does not run with this implementation.
    """
    result = subprocess.run(
        [*keyferry_program(), "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **_environment(implementation)},
        timeout=VERSION_TIMEOUT_S,
        check=False,
    )
    if result.returncode != 0:
        lines = result.stderr.decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        raise BenchError(said[-1] if said else f"keyferry --version ends with {result.returncode}")
    return " ".join(result.stdout.decode("utf-8", "replace").split())


def _environment(implementation: str) -> Mapping[str, str]:
    return {"KEYFERRY_IMPL": implementation}


def _work(ended: Ended, keys: int, report: Mapping[str, Any] | None) -> Work:
    """``report`` is what the tool said of itself; without one its whole process is the copying phase."""
    seconds = ended.seconds if report is None else float(report["seconds"])
    if seconds > ended.seconds:
        raise BenchError(f"it says that it took {seconds:.3f} s, its process took {ended.seconds:.3f} s")
    phase_cpu = None if report is None else report.get("cpu_seconds")
    return Work(
        keys,
        seconds,
        process_seconds=ended.seconds,
        tool_cpu_s=ended.cpu_s,
        phase_cpu_s=None if phase_cpu is None else float(phase_cpu),
        tool_peak_bytes=ended.peak_bytes,
    )


def _last_json(output: bytes) -> dict[str, Any]:
    """The JSON object that a tool ends its standard output with, on one line or on several."""
    text = output.decode("utf-8", "replace").strip()
    for start in (0, text.rfind("\n{") + 1):
        try:
            found = json.loads(text[start:])
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    raise BenchError(f"no JSON object on standard output: {text[-200:]!r}")
