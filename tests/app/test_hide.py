"""No password in the process list, in messages, or anywhere else that people can see."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import command, environment, keyferry
from hypothesis import given
from hypothesis import strategies as st

from keyferry.app.hide import process_title, redact, redact_argument
from keyferry.testing.servers import Server

SECRET = "hunter2-s3cret"


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("redis://user:pw@host:1/2", "redis://user:***@host:1/2"),
        ("redis://:pw@host", "redis://:***@host"),
        ("redis://pw@host", "redis://***@host"),
        ("unix://:pw@/tmp/s", "unix://:***@/tmp/s"),
        ("rediss://u:p/w:x@y@host", "rediss://u:***@host"),
        ("redis://u:p w@host", "redis://u:***@host"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("user:*@x", "user:*@x"),
    ],
)
def test_arguments_are_shown_without_credentials(argument: str, shown: str) -> None:
    assert redact_argument(argument) == shown


def test_addresses_inside_a_sentence_are_redacted() -> None:
    assert redact("unexpected (redis://u:pw@h, redis://x)") == "unexpected (redis://u:***@h, redis://x)"


def test_the_title_is_left_alone_when_there_is_nothing_to_hide() -> None:
    assert process_title(["copy", "redis://a", "redis://b", "--match", "a@b"]) is None


@given(st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: f"Zq{text}Zq"))
def test_no_password_survives(password: str) -> None:
    assert password not in redact_argument(f"redis://user:{password}@host")


def test_the_process_list_does_not_show_it(start_server: Callable[..., Server], tmp_path: Path) -> None:
    source = start_server("redis-6.2", requirepass=SECRET)
    source.pause()  # the command now waits for it
    arguments = ["check", source.url.replace("//", f"//:{SECRET}@"), "redis://127.0.0.1:1"]
    with subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
    ) as process:
        try:
            line = _wait_for_title(process.pid)
        finally:
            source.resume()
            process.kill()
    assert SECRET not in line
    assert line.split("\0")[0] == f"keyferry check redis://:***@127.0.0.1:{source.port} redis://127.0.0.1:1"


def _wait_for_title(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    if not path.exists():
        pytest.skip("no /proc on this system")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        line = path.read_bytes().decode()
        if line.startswith("keyferry"):
            return line
        time.sleep(0.01)
    pytest.fail("the process title never changed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["copy", f"redis://:{SECRET}@127.0.0.1:1", "redis://127.0.0.1:1"],
        ["copy", f"redis://:{SECRET}@127.0.0.1:port", "redis://127.0.0.1:1"],
        ["copy", f"redis://:{SECRET}@127.0.0.1:1", "redis://127.0.0.1:1", f"redis://:{SECRET}@more"],
        ["copy", f"http://:{SECRET}@127.0.0.1:1", "redis://127.0.0.1:1"],
        ["copy", f"redis://:{SECRET}@127.0.0.1:1/0?{SECRET}", "redis://127.0.0.1:1", "--json"],
        ["check", f"redis://:{SECRET}@127.0.0.1:1", "redis://127.0.0.1:1", "--json"],
        ["copy", "redis://127.0.0.1:1", "redis://127.0.0.1:2", f"--type=redis://:{SECRET}@x"],
    ],
)
@pytest.mark.parametrize("debug", ["0", "1"])
def test_errors_do_not_show_it(arguments: list[str], debug: str, tmp_path: Path) -> None:
    ended = keyferry(*arguments, cwd=tmp_path, KEYFERRY_DEBUG=debug)
    assert ended.status in (2, 3)
    assert SECRET not in ended.out + ended.err


def test_a_wrong_password_is_not_repeated(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server("redis-6.2", requirepass="right")
    ended = keyferry("check", server.url, server.url, cwd=tmp_path, KEYFERRY_SOURCE_PASSWORD=SECRET)
    assert ended.status == 3
    assert "WRONGPASS" in ended.err
    assert SECRET not in ended.out + ended.err
