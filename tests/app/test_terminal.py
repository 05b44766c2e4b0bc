"""What a terminal of 80 columns gets to see while a copy runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

from commandline import command, environment

from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

COLUMNS = 80
SHOW_CURSOR = b"\x1b[?25h"
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


def run_on_terminal(arguments: list[str], cwd: Path) -> tuple[int, bytes]:
    """Runs the command with standard error on a terminal; its exit status and what the terminal got."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    with subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(TERM="xterm"), stdout=subprocess.DEVNULL, stderr=slave
    ) as process:
        os.close(slave)
        seen = bytearray()
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError:
            pass  # EIO: the last one who had the terminal open has gone
        finally:
            os.close(master)
    return process.returncode, bytes(seen)
