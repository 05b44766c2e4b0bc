"""Hooks: their facts, their output, their failures, and their end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from keyferry.cutover.hooks import OUTPUT_BYTES_MAX, run_hook

TIMEOUT_S = 20.0


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_facts_are_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFERRY_SOURCE_PASSWORD", "secret")
    monkeypatch.setenv("OTHER", "kept")
    result = run_hook(
        'echo "$KEYFERRY_NAME $KEYFERRY_EVENT $OTHER [$KEYFERRY_SOURCE_PASSWORD]"',
        {"NAME": "shop move", "EVENT": "cutover"},
        TIMEOUT_S,
    )
    assert result.output == "shop move cutover kept []\n"
    assert result.succeeded and result.exit_code == 0
    assert str(result).startswith("The hook ended well after 0.")


def test_a_failure_is_told_with_what_it_wrote() -> None:
    result = run_hook("echo out; echo err >&2; exit 7", {}, TIMEOUT_S)
    assert (result.exit_code, result.output, result.succeeded) == (7, "out\nerr\n", False)
    assert "its exit status is 7" in str(result)


def test_a_signal_that_ends_it() -> None:
    result = run_hook("kill -TERM $$", {}, TIMEOUT_S)
    assert result.exit_code == -signal.SIGTERM and not result.succeeded


def test_of_much_output_the_end_is_kept() -> None:
    result = run_hook("head -c 1000000 /dev/zero | tr '\\0' x; printf end", {}, TIMEOUT_S)
    assert result.succeeded and len(result.output) == OUTPUT_BYTES_MAX and result.output.endswith("xend")


def test_output_that_is_no_text() -> None:
    assert run_hook("printf '\\377'", {}, TIMEOUT_S).output == "\\xff"


def test_late_ones_are_ended_with_all_they_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    result = run_hook(f"sleep 600 & echo $! > {file}; echo begun; sleep 600", {}, 0.5)
    assert result.timed_out and not result.succeeded and result.output == "begun\n"
    assert 0.5 <= result.seconds < TIMEOUT_S and "did not end within" in str(result)
    pid = int(file.read_text())
    deadline_s = time.monotonic() + TIMEOUT_S
    while not gone(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert gone(pid)


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    result = run_hook(f"sleep 600 & echo $! > {file}; echo done", {}, TIMEOUT_S)
    try:
        assert result.succeeded and result.output == "done\n" and result.seconds < TIMEOUT_S / 2
        assert not gone(int(file.read_text()))
    finally:
        os.kill(int(file.read_text()), signal.SIGKILL)


def test_one_that_closes_its_outputs_is_waited_for() -> None:
    result = run_hook("exec >&- 2>&-; sleep 0.3; exit 3", {}, TIMEOUT_S)
    assert result.exit_code == 3 and result.seconds >= 0.3


def test_what_cannot_be_started() -> None:
    result = run_hook("true", {"NAME": "a\0b"}, TIMEOUT_S)
    assert result.exit_code is None and "could not be started" in str(result)
