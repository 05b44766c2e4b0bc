"""The tools, each run once as a process between any two deployments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.child import Ended, run_tool
from bench.rows import REDISSHAKE_VARIABLE
from bench.samples import BenchError, Work
from keyferry.testing.deployment import Deployment

HERE = Path(__file__).parent
VERSION_TIMEOUT_S = 30.0
DIFFERENCES_EXIT = 1


@dataclass(frozen=True, slots=True)
class Errand:
    """What a tool is to do: ``keys`` keys from ``source`` to ``target``, with an empty directory for its files."""

    source: Deployment
    target: Deployment
    keys: int
    directory: Path
    timeout_s: float

    @property
    def ports(self) -> tuple[int, int]:
        """Of two single servers, or of the first nodes."""
        return self.source.nodes[0].port, self.target.nodes[0].port


def run_keyferry(errand: Errand, implementation: str, arguments: Sequence[str] = ()) -> Work:
    """``keyferry copy``; ``implementation`` is what KEYFERRY_IMPL asks for.

    Raises:
        BenchError: It ended with an error, or some keys failed.
    """
    argv = [*keyferry_program(), "copy", errand.source.url, errand.target.url]
    argv += ["--json", "--state-dir", str(errand.directory / "state"), *arguments]
    ended = run_tool(argv, errand.directory, errand.timeout_s, _environment(implementation))
    report = _last_json(ended.output)
    if report["failed"]:
        raise BenchError(f"keyferry says that {report['failed']} keys failed")
    return work_of(ended, errand.keys, report)


def run_verify(errand: Errand, arguments: Sequence[str] = ()) -> tuple[Work, int]:
    """``keyferry verify``, and the number of differences that it found.

    Raises:
        BenchError: It ended with an error, or compared another number of keys than asked.
    """
    argv = [*keyferry_program(), "verify", errand.source.url, errand.target.url]
    argv += ["--json", "--state-dir", str(errand.directory / "state"), *arguments]
    ended = run_tool(argv, errand.directory, errand.timeout_s, results=(0, DIFFERENCES_EXIT))
    report = _last_json(ended.output)
    if report["compared"] != errand.keys:
        raise BenchError(f"it compared {report['compared']:,} keys instead of {errand.keys:,}")
    return work_of(ended, errand.keys, report), report["differences"]


def run_redis_py(errand: Errand, page_keys: int) -> Work:
    """The redis-py loop between two servers, ``page_keys`` DUMPs in one pipeline. Raises ``BenchError``."""
    ports = [str(port) for port in errand.ports]
    argv = [sys.executable, str(HERE / "redis_py_loop.py"), *ports, str(page_keys)]
    ended = run_tool(argv, errand.directory, errand.timeout_s)
    return work_of(ended, errand.keys, _last_json(ended.output))


def redisshake_missing() -> str:
    """Why RedisShake cannot be run; empty when it can."""
    path = os.environ.get(REDISSHAKE_VARIABLE, "")
    if not path:
        return f"not measured: {REDISSHAKE_VARIABLE} names no binary"
    return "" if shutil.which(path) else f"not measured: {REDISSHAKE_VARIABLE} names no program"


def run_redisshake(errand: Errand) -> Work:
    """Its scan reader between two servers. Raises ``BenchError``."""
    source_port, target_port = errand.ports
    settings = errand.directory / "shake.toml"
    settings.write_text(
        f'[scan_reader]\naddress = "127.0.0.1:{source_port}"\n'
        "scan = true\nksn = false\ncount = 1000\n"
        f'[redis_writer]\naddress = "127.0.0.1:{target_port}"\n'
        f'[advanced]\ndir = "{errand.directory / "shake"}"\nlog_level = "warn"\n'
        'rdb_restore_command_behavior = "rewrite"\n'
    )
    # Absolute: it runs in another directory than ours.
    program = str(Path(shutil.which(os.environ[REDISSHAKE_VARIABLE]) or "").absolute())
    return work_of(run_tool([program, str(settings)], errand.directory, errand.timeout_s), errand.keys, None)


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


def work_of(ended: Ended, keys: int, report: Mapping[str, Any] | None) -> Work:
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
