"""What a terminal of 80 columns gets to see while something runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import command, environment

from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

COLUMNS = 80
SHOW_CURSOR = b"\x1b[?25h"
READY_NEXT = b"keyferry cutover --name shop"
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def test_the_live_display(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-6.2"), flushed("valkey-9.1")
    with source.session() as session:
        fill(session, 2_000)
    arguments = ["copy", source.url, target.url, "--max-rate", "1500", "--batch", "100"]
    status, seen = run_on_terminal(arguments, tmp_path)
    assert status == 0, seen
    assert seen.rindex(SHOW_CURSOR) > seen.rindex(b"keys/s")
    lines = [line.rstrip() for line in _CONTROL.sub(b"\n", seen).decode().splitlines()]
    text = "\n".join(lines)
    for part in (" of 2,000", "keys/s", "held to your limit", "copying, database 0", "source ", "vanished"):
        assert part in text
    assert max(map(len, lines)) <= COLUMNS
    assert "Traceback" not in text


@pytest.mark.parametrize("columns", [80, 100])
def test_a_sync(flushed: Callable[..., Server], tmp_path: Path, columns: int) -> None:
    source, target = flushed("redis-6.2"), flushed("valkey-9.1")
    with source.session() as session:
        fill(session, 2_000)

    def meanwhile(process: subprocess.Popen[bytes], shown: bytearray) -> None:
        deadline = time.monotonic() + 60
        with source.session() as session, target.session() as other:
            while process.poll() is None and other.call("GET", "last") is None:
                assert time.monotonic() < deadline, "nothing is followed"
                session.call("SET", "last", "v")
                time.sleep(0.5)
        while process.poll() is None and b"following" not in shown:
            assert time.monotonic() < deadline, "nothing is shown of it"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)

    status, seen = run_on_terminal(["sync", source.url, target.url], tmp_path, columns, meanwhile)
    assert status == 130, seen
    assert seen.rindex(SHOW_CURSOR) > seen.rindex(b"cutover")
    lines = [line.rstrip() for line in _CONTROL.sub(b"\n", seen).decode().splitlines()]
    text = "\n".join(lines)
    for part in ("tracking, generation 1", "following", "dirty", "lag", "settled", "cutover", "same command"):
        assert part in text
    assert max(map(len, lines[:-2])) <= columns
    assert "Traceback" not in text


def test_a_comparison(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-6.2"), flushed("valkey-9.1")
    with source.session() as session:
        fill(session, 2_000)
    arguments = ["verify", source.url, target.url, "--max-rate", "1500", "--batch", "100", "--rounds", "1"]
    status, seen = run_on_terminal(arguments, tmp_path)
    assert status == 1, seen
    assert seen.rindex(SHOW_CURSOR) > seen.rindex(b"keys/s")
    lines = [line.rstrip() for line in _CONTROL.sub(b"\n", seen).decode().splitlines()]
    text = "\n".join(lines)
    for part in (" of 2,000", "keys/s", "held to your limit", "comparing", "suspects", "differ"):
        assert part in text
    assert max(map(len, lines)) <= COLUMNS
    assert "Traceback" not in text


@pytest.mark.parametrize("columns", [80, 100])
def test_a_migration(flushed: Callable[..., Server], tmp_path: Path, columns: int) -> None:
    source, target = flushed("redis-6.2"), flushed("valkey-9.1")
    with source.session() as session:
        fill(session, 500)

    def meanwhile(process: subprocess.Popen[bytes], shown: bytearray) -> None:
        deadline = time.monotonic() + 60
        while process.poll() is None and b"next: " + READY_NEXT not in _CONTROL.sub(b"", bytes(shown)):
            assert time.monotonic() < deadline, "it is never ready"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)

    given = ["migrate", source.url, target.url, "--name", "shop", "--gate", "none"]
    status, seen = run_on_terminal(given, tmp_path, columns, meanwhile)
    assert status == 130, seen
    assert seen.rindex(SHOW_CURSOR) > seen.rindex(b"verified")
    lines = [line.rstrip() for line in _CONTROL.sub(b"\n", seen).decode().splitlines()]
    text = "\n".join(lines)
    for part in ("tracking, generation 1", "dirty", "lag", "equal, 1,000 keys", "0 live", "to the target"):
        assert part in text
    assert "copy > follow > verify > [ready] > cut over > follow back" in _CONTROL.sub(b"", seen).decode()
    assert max(map(len, lines[:-2])) <= columns
    assert "Traceback" not in text


def run_on_terminal(
    arguments: list[str],
    cwd: Path,
    columns: int = COLUMNS,
    meanwhile: Callable[[subprocess.Popen[bytes], bytearray], None] | None = None,
) -> tuple[int, bytes]:
    """Runs the command with standard error on a terminal; its exit status and what the terminal got.

    Args:
        meanwhile: Runs on a thread of its own while the command does; gets what the terminal got so far, too.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(TERM="xterm"), stdout=subprocess.DEVNULL, stderr=slave
    ) as process:
        os.close(slave)
        seen = bytearray()
        beside = threading.Thread(target=meanwhile, args=(process, seen)) if meanwhile else None
        try:
            if beside:
                beside.start()
            while data := os.read(master, 65536):
                seen += data
        except OSError:
            pass  # EIO: the last one who had the terminal open has gone
        finally:
            os.close(master)
            if beside:
                beside.join()
    return process.returncode, bytes(seen)
