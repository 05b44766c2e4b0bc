"""The tests, and a second look at the few whose answer may have been the machine's.

Thousands of tests with real servers, processes and sockets share a few cores. One that waits for something may time out
because of its neighbours, so up to RETRIED_MAX failed tests are run once more, alone. What fails again has failed. What
passes is named in the closing lines, to be looked at: a race is a fault, of the test or of the product.

The tests that attack (whole histories under faults, torture, random machines, explorations of the protocol) are never
run again: a lost write that shows once in a thousand runs is what they are for.

    python -m dev.run_tests [arguments of pytest]
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

RETRIED_MAX = 5
NEVER_AGAIN = (
    "tests/history/",
    "tests/protocol/",
    "tests/follow/test_torture",
    "tests/capture/clients/test_attack",
)
"""Beginnings of the names of tests for which the first answer counts."""
FAILED = 1
"""pytest's exit status when tests have failed, and nothing else was wrong."""
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def worth_a_second_look(failed: Collection[str]) -> bool:
    """Whether these, by their names, may be run again."""
    return 0 < len(failed) <= RETRIED_MAX and not any(name.startswith(NEVER_AGAIN) for name in failed)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    LAST_FAILED.unlink(missing_ok=True)
    status = _pytest(arguments)
    failed = _failed()
    if status != FAILED or not worth_a_second_look(failed):
        return status
    print(f"\nRunning again, alone: {', '.join(failed)}", flush=True)
    status = _pytest(failed)
    if status == 0:
        for name in failed:
            print(f"LOOK AT THIS ONE: {name} failed among others and passed alone.", flush=True)
    return status


def _pytest(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def _failed() -> list[str]:
    """The names of the tests that failed in the last run."""
    try:
        return sorted(json.loads(LAST_FAILED.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
