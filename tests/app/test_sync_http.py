"""``keyferry sync --http``: its dashboard shows what it does, and nobody can lead it."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import keyferry, started

from keyferry.cutover.control_client import ask
from keyferry.cutover.requests import Request
from keyferry.model.errors import ExitCode
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

KEYS = 1_000
LIMIT_S = 60.0
PLACE = re.compile(rb"The dashboard is at (http://127\.0\.0\.1:\d+/)\.")


def looked(url: str) -> dict[str, Any]:
    """Empty while there is nothing to see."""
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError:
        return {}


def wait(what: str, look: Callable[[], Any]) -> Any:
    until_s = time.monotonic() + LIMIT_S
    while not (found := look()):
        assert time.monotonic() < until_s, what
        time.sleep(0.05)
    return found


def test_a_sync_can_be_looked_at_and_not_led(
    flushed: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may not be long
    source, target = flushed("redis-6.2"), flushed("valkey-9.1")
    with source.session() as session:
        fill(session, KEYS)
    given = ["sync", source.url, target.url, "--max-latency", "0", "--name", "shop"]
    with started([*given, "--http", "0"], tmp_path) as process:
        assert process.stderr is not None
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, b"")))  # type: ignore[union-attr]
        reader.start()
        place = wait("the line that says where it is", lambda: PLACE.search(b"".join(lines)))
        url = place[1].decode()

        def following() -> dict[str, Any]:
            status = looked(f"{url}api/status")
            return status if status.get("stage") == "following" else {}

        status = wait("following", following)
        assert (status["kind"], status["name"], status["stations"]) == ("sync", "shop", ["copy", "follow"])
        assert status["glance"]["doing"].startswith("Following")
        assert any("tracking" in event["text"] for event in status["events"])

        def rows() -> bool:
            return any(row[1] == "following" for row in looked(f"{url}api/history").get("rows", ()))

        wait("its history", rows)

        (socket_file,) = Path(".keyferry").glob("sync-*.sock")
        end = ask(socket_file, Request("pause"), lambda said: None)
        assert (end.exit_code, end.sentence) == (
            ExitCode.REFUSED,
            "A sync takes no requests: it copies and follows until it is stopped.",
        )
        again = keyferry(*given, "--http", "0", cwd=tmp_path)
        assert again.status == ExitCode.REFUSED, again.err
        assert "runs already" in again.err

        process.send_signal(signal.SIGINT)
        reader.join(LIMIT_S)
        assert process.wait(LIMIT_S) == ExitCode.INTERRUPTED
    assert b"Traceback" not in b"".join(lines)
    assert not list((tmp_path / ".keyferry").glob("*.sock"))
    assert not list((tmp_path / ".keyferry").glob("*.token"))
