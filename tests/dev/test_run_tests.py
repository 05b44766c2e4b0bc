"""Which failures get a second look, and what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dev.run_tests import NEVER_AGAIN, RETRIED_MAX, worth_a_second_look

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        ([], False),
        (["tests/copy/test_a.py::test_b"], True),
        ([f"tests/copy/test_a.py::test_{n}" for n in range(RETRIED_MAX)], True),
        ([f"tests/copy/test_a.py::test_{n}" for n in range(RETRIED_MAX + 1)], False),
        (["tests/copy/test_a.py::test_b", "tests/history/test_scenes.py::test_c"], False),
    ],
)
def test_a_few_failures_but_never_of_what_attacks(failed: list[str], again: bool) -> None:
    assert worth_a_second_look(failed) is again


def test_what_is_never_run_again_exists() -> None:
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    for beginning in NEVER_AGAIN:
        assert any(name.startswith(beginning) for name in files), beginning


def run(directory: Path, *, well_after: int) -> subprocess.CompletedProcess[str]:
    """The command on one test that passes from its so-manieth run on."""
    (directory / "test_it.py").write_text(
        "from pathlib import Path\n"
        "def test_it():\n"
        "    runs = Path('runs')\n"
        "    runs.write_text(runs.read_text() + '.' if runs.exists() else '.')\n"
        f"    assert len(runs.read_text()) > {well_after}\n"
    )
    (directory / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-c", "import sys; from dev.run_tests import main; sys.exit(main(['-q']))"],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("well_after", "status"), [(0, 0), (1, 0), (2, 1)])
def test_what_fails_again_has_failed(tmp_path: Path, well_after: int, status: int) -> None:
    ran = run(tmp_path, well_after=well_after)
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert ("LOOK AT THIS ONE: test_it.py::test_it" in ran.stdout) is (well_after == 1)
