"""Where the suite lives: fetched from PyPI, never part of the project, with a Python environment of its own."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from keyferry.model.errors import KeyferryError

VERSION = "8.1.0"
DIRECTORY = Path(".redis-py")
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
PIP_TIMEOUT_S = 900


class SuiteError(KeyferryError):
    """The suite cannot be fetched, or a run of it gave no outcome at all."""


def suite_directory() -> Path:
    """The unpacked source distribution; fetched the first time.

    Raises:
        SuiteError: pip cannot get it.
    """
    place = (DIRECTORY / f"redis-{VERSION}").absolute()
    if not (place / "tests").is_dir():
        DIRECTORY.mkdir(exist_ok=True)
        archive = DIRECTORY / f"redis-{VERSION}.tar.gz"
        if not archive.exists():
            download = ("download", "--no-deps", "--no-binary", ":all:", "--dest", str(DIRECTORY))
            _pip(Path(sys.executable), *download, f"redis=={VERSION}")
        with tarfile.open(archive) as content:
            content.extractall(DIRECTORY, filter="data")
    return place


def suite_python() -> Path:
    """The interpreter that runs the suite. Raises as `python`."""
    lines = REQUIREMENTS.read_text().splitlines()
    return python("venv", [line for line in lines if line and not line.startswith("#")])


def python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these requirements; made anew when they have changed.

    Args:
        name: of the environment's directory.
        requirements: as pip takes them.

    Raises:
        SuiteError: pip cannot install them.
    """
    place = (DIRECTORY / name).absolute()
    interpreter = place / "bin" / "python"
    wanted = "\n".join((sys.version, *requirements))
    stamp = place / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        DIRECTORY.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        _pip(interpreter, "install", *requirements)
        stamp.write_text(wanted)
    return interpreter


def _pip(interpreter: Path, *arguments: str) -> None:
    command = [str(interpreter), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SuiteError(f"pip {arguments[0]} took longer than {PIP_TIMEOUT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SuiteError(f"pip {arguments[0]} failed: {said}")
