"""Lines get out or are counted; nothing that a disk, a pipe or logrotate does is felt by whoever speaks."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.app.log_writer import CLOSE_S, WAITING_MAX, FilePlace, LineWriter, StreamPlace
from keyferry.model.errors import UsageError

PATIENCE_S = 20.0
AT_ONCE_S = 5.0


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lost(lines: int) -> str:
    return f"lost {lines}"


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_lines_are_appended_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    for word in ("one", "two"):
        writer = LineWriter(FilePlace(path), lost)
        writer.put(word)
        writer.close()
    assert path.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_was_rotated_is_met_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "run.log", tmp_path / "run.log.1"
    writer = LineWriter(FilePlace(path), lost)
    writer.put("before")
    wait_for(lambda: lines_of(path) == ["before"])
    path.rename(old)
    writer.put("after")
    wait_for(lambda: lines_of(path) == ["after"])
    writer.close()
    assert lines_of(old) == ["before"]


def test_a_full_disk_costs_its_lines_and_they_are_counted(tmp_path: Path) -> None:
    path, room = tmp_path / "run.log", tmp_path / "room"
    path.symlink_to("/dev/full")
    writer = LineWriter(FilePlace(path), lost)
    for _ in range(3):
        writer.put("nowhere")
    # In one step: the writer makes a file where there is none.
    other = tmp_path / "other"
    other.symlink_to(room)
    other.rename(path)

    def out() -> bool:
        writer.put("there")
        time.sleep(0.01)
        return "there" in lines_of(room)

    wait_for(out)
    writer.close()
    said = lines_of(room)
    number = sum(int(line.split()[1]) for line in said if line.startswith("lost"))
    # Whatever was in time for the old place is counted; what came later is there.
    assert number + said.count("nowhere") >= 3
    assert {line.split()[0] for line in said} <= {"there", "nowhere", "lost"}


@pytest.mark.parametrize("reads", [True, False], ids=["reader stands still", "reader has gone"])
def test_a_pipe_without_a_reader_holds_nobody_up(reads: bool) -> None:
    out, into = os.pipe()
    writer = LineWriter(StreamPlace(into), lost)
    os.close(into)
    if not reads:
        os.close(out)
    began_s = time.monotonic()
    for _ in range(3 * WAITING_MAX):
        writer.put("x" * 1000)
    assert time.monotonic() - began_s < AT_ONCE_S
    writer.close()
    assert time.monotonic() - began_s < AT_ONCE_S + CLOSE_S
    if reads:
        os.close(out)


def test_a_place_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "missing" / "run.log", tmp_path, fifo):
        with pytest.raises(UsageError, match=r"--log-file .* cannot be written"):
            FilePlace(path)
