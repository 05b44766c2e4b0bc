"""``python -m dev.redis_py_versions``: our own tests of the clients with the oldest and the newest redis-py.

Each version has an environment of its own below `.redis-py/`; what follows on the command line goes to pytest.
Exit code: 0 when the tests pass with every version, else pytest's of the last that did not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dev.redis_py_suite.place import SuiteError, python
from keyferry.testing.binaries import PATHS_VARIABLE, find_binaries

VERSIONS = ("5.0.8", "8.1.0")
"""The oldest and the newest redis-py that Keyferry's clients are tested with."""
TESTS = ("tests/capture/clients",)
NEEDED = (
    "click>=8.1",
    "hypothesis>=6.100",
    "prometheus-client>=0.20",
    "psutil>=6",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "rich>=13.8",
    "setproctitle>=1.3",
    "trustme>=1.1",
)
SOURCES = Path(__file__).absolute().parent.parent / "src"
TIMEOUT_S = 3_600


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    tests = () if any(argument.startswith("tests/") for argument in arguments) else TESTS
    # The environments lack the packages that servers come in: they are told where this one has them.
    servers = os.pathsep.join(str(binary.path) for binary in find_binaries().values())
    environment = os.environ | {PATHS_VARIABLE: servers}
    failed: dict[str, int] = {}
    for version in VERSIONS:
        try:
            interpreter = python(f"redis-{version}-venv", (f"redis=={version}", *NEEDED))
            _point_to_our_sources(interpreter)
        except SuiteError as error:
            print(f"Cannot test with redis-py {version}: {error}", file=sys.stderr)
            return 2
        print(f"redis-py {version}", flush=True)
        command = [str(interpreter), "-m", "pytest", "-p", "no:cacheprovider", *tests, *arguments]
        code = subprocess.run(command, env=environment, timeout=TIMEOUT_S, check=False).returncode
        if code:
            failed[version] = code
    print(f"redis-py {', '.join(VERSIONS)}: {'failed with ' + ', '.join(failed) if failed else 'passed'}")
    return next(reversed(failed.values()), 0)


def _point_to_our_sources(interpreter: Path) -> None:
    """Makes keyferry importable there, by programs that tests start too, without another build of it."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([interpreter, "-c", where], capture_output=True, text=True, check=True).stdout
    (Path(packages.strip()) / "keyferry.pth").write_text(f"{SOURCES}\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
