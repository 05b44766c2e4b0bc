"""One run of the suite: two servers of its own, pytest in the suite's environment, and how every test ended."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.redis_py_suite.compare import Outcome
from dev.redis_py_suite.place import DIRECTORY, SuiteError, suite_directory, suite_python
from keyferry.testing.servers import Server, ServerBinary

HERE = Path(__file__).parent
LEFT_OUT = HERE / "left_out.toml"
SOURCES = HERE.parent.parent / "src"
PREFERRED = ("redis-8.2", "redis-7.0", "redis-6.2")
"""The newest Redis that is at hand: the suite skips what a server is too old for."""
NOWHERE = "redis://127.0.0.1:1"
RUN_TIMEOUT_S = 5_400
_running: set[subprocess.Popen[bytes]] = set()
SETS = re.compile(rb"^cmdstat_set:calls=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        phase: of our class; None is redis-py itself.
        protocol: what the suite's own ``--protocol`` is given: "2", "3", or "" for redis-py's default.
        only: names of the tests to run; None is all that are not left out.
        pytest_arguments: further arguments of pytest (``-k``).
    """

    phase: str | None
    protocol: str
    only: tuple[str, ...] | None = None
    pytest_arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For file names and the table."""
        return (
            f"{self.phase or 'redis-py'}, {f'RESP{self.protocol}' if self.protocol else 'default protocol'}"
        )


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it.

    Attributes:
        outcomes: by test.
        left_out: how many tests were not run, by why.
        sets: how often SET ran on the server that the suite knows, and on the other one.
        log: where pytest's own words are.
    """

    outcomes: dict[str, Outcome]
    left_out: dict[str, int]
    sets: tuple[int, int]
    log: Path


def run_suite(plan: Plan, binary: ServerBinary) -> Ran:
    """Runs it; blocks until it is over.

    Raises:
        SuiteError: pytest ended without having run a test, or not in time.
    """
    suite, interpreter = suite_directory(), suite_python()
    log = (DIRECTORY / "logs" / f"{plan.name}{'' if plan.only is None else ', again'}.txt").absolute()
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        asked, other = (stack.enter_context(Server(binary)) for _ in range(2))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyferry-")))
        told = {
            "outcomes": str(directory / "outcomes"),
            "left_out": _list_of_left_out(),
            "tests": plan.only,
            "phase": plan.phase,
            "port": asked.port,
            "other": other.url,
            "lock": str((DIRECTORY / "lock").absolute()),
            "flush": [asked.port, other.port],
        }
        (directory / "told").write_text(json.dumps(told))
        environment = os.environ | {
            "KEYFERRY_SUITE": str(directory / "told"),
            "PYTHONPATH": os.pathsep.join(map(str, (SOURCES, HERE / "inside"))),
        }
        code = _run(_command(plan, interpreter, asked), suite, environment, log)
        lines = _lines(directory / "outcomes")
        outcomes = {line["test"]: Outcome(line["word"], line["why"]) for line in lines if "test" in line}
        if not outcomes:
            raise SuiteError(f"{plan.name}: pytest ended with {code} and ran no test; see {log}")
        left_out: dict[str, int] = next((line["left_out"] for line in lines if "left_out" in line), {})
        return Ran(outcomes, left_out, (_sets_run(asked), _sets_run(other)), log)


def _list_of_left_out() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = tomllib.loads(LEFT_OUT.read_text())["left_out"]
    return rules


def _command(plan: Plan, interpreter: Path, asked: Server) -> list[str]:
    files = sorted({test.split("::", 1)[0] for test in plan.only or ()})
    if not files and not any(argument.startswith("tests/") for argument in plan.pytest_arguments):
        files = ["tests"]
    return [
        *(str(interpreter), "-m", "pytest", "-p", "keyferry_suite", "-p", "no:cacheprovider"),
        *("-o", "addopts=", "-W", "ignore", "--tb=short", "--verbose"),
        *("--redis-url", f"redis://localhost:{asked.port}/0", "--redis-mod-url", NOWHERE),
        *(("--protocol", plan.protocol) if plan.protocol else ()),
        *(() if plan.phase is None and plan.only is None else _not_collected()),
        *plan.pytest_arguments,
        *files,
    ]


def _not_collected() -> list[str]:
    """Whole files that are left out need not even be read; a run of redis-py itself reads them, to count."""
    paths = [path for rule in _list_of_left_out() for path in rule.get("files", ())]
    return [f"--ignore={path.rstrip('/')}" for path in paths]


def _run(command: Sequence[str], suite: Path, environment: dict[str, str], log: Path) -> int:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=suite,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _running.add(process)
        try:
            return process.wait(RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise SuiteError(f"a run of the suite took longer than {RUN_TIMEOUT_S} s; see {log}") from None
        finally:
            process.kill()
            process.wait()
            _running.discard(process)


def run_redis_py(plan: Plan, binary: ServerBinary, *, reuse: bool) -> Ran:
    """A run of redis-py itself; what it came to is kept for the next time.

    Args:
        plan: of the run; its phase is None.
        binary: the server to run on.
        reuse: take what an earlier run of the same plan on the same server came to, if there was one.

    Raises:
        SuiteError: as `run_suite`.
    """
    kept = (
        DIRECTORY
        / "kept"
        / f"{hashlib.sha256(f'{plan} {binary} {_list_of_left_out()}'.encode()).hexdigest()}.json"
    )
    if reuse and kept.exists():
        known = json.loads(kept.read_text())
        outcomes = {test: Outcome(*ended) for test, ended in known["outcomes"].items()}
        return Ran(outcomes, known["left_out"], tuple(known["sets"]), kept)
    ran = run_suite(plan, binary)
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(
        json.dumps(
            {
                "outcomes": {test: [ended.word, ended.why] for test, ended in ran.outcomes.items()},
                "left_out": ran.left_out,
                "sets": ran.sets,
            }
        )
    )
    return ran


def stop_all() -> None:
    """Ends every run that is under way; each comes back as one that broke off."""
    for process in tuple(_running):
        process.kill()


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def _sets_run(server: Server) -> int:
    """How often SET ran: that the second server took part, or did not. A test may have reset the counter."""
    with server.session() as session:
        said = session.call("INFO", "commandstats")
    found = SETS.search(said) if isinstance(said, bytes) else None
    return int(found[1]) if found else 0
