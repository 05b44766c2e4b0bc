"""``keyferry demo``: the whole story; every acknowledged write is there in the end, and nothing is left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from commandline import command, environment, keyferry

from keyferry.testing.servers import ServerBinary


def leftovers(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def test_it_moves_a_service_there_and_back_and_there_and_cleans_up(tmp_path: Path) -> None:
    temporary, here = tmp_path / "t", tmp_path / "h"
    temporary.mkdir()
    here.mkdir()
    ended = keyferry("demo", "--keys", "2000", "--record", "run.svg", cwd=here, TMPDIR=str(temporary))
    assert ended.status == 0, ended.out + ended.err
    assert "2,000 keys of 6 types" in ended.out
    made = re.findall(r"The (\w+) is made: the (\w+) has authority, phase \w+\. Writes waited", ended.out)
    assert made == [("cutover", "target"), ("rollback", "source"), ("cutover", "target")]
    assert re.search(r"On the source default, shop cannot write any more", ended.out)
    table = ended.out.partition("What the service saw")[2]
    assert re.findall(r"^  (cutover|rollback|no switch) +[\d.]+ ms", table, re.MULTILINE)
    assert len(re.findall(r"^  (?:cutover|rollback) +[\d.]+ ms +[\d.]+ ms$", table, re.MULTILINE)) == 3
    counted = re.search(
        r"([\d,]+) acknowledged writes, counted one by one: 0 lost, 0 doubled\.\n"
        r"([\d,]+) reads: 0 stale\. 0 errors\.",
        table,
    )
    assert counted is not None
    assert all(int(number.replace(",", "")) > 1_000 for number in counted.groups())
    assert ended.out.endswith("Both servers are stopped.\n")
    assert "<svg" in (here / "run.svg").read_text()
    assert re.search(
        r"^note: The dashboard is at http://127\.0\.0\.1:\d+/ and the token", ended.err, re.MULTILINE
    )
    assert "\nreport  keyferry-demo-report.html\n" in ended.out
    report = (here / "keyferry-demo-report.html").read_text()
    assert all(word in report for word in ("cutover", "rollback", "<svg", "</html>"))
    names = sorted(file.name for file in leftovers(here))
    assert (leftovers(temporary), names) == ([], ["keyferry-demo-report.html", "run.svg"])


def test_it_takes_other_servers(binaries: dict[str, ServerBinary], tmp_path: Path) -> None:
    newest, oldest = list(binaries.values())[-1], next(iter(binaries.values()))
    ended = keyferry(
        "demo", "--keys", "1500", "--source", str(newest.path), "--target", str(oldest.path), cwd=tmp_path
    )
    assert ended.status == 0, ended.out + ended.err
    assert f"source  {newest}" in ended.out
    assert f"target  {oldest}" in ended.out


def test_something_else_than_a_server_is_bad_usage(tmp_path: Path) -> None:
    ended = keyferry("demo", "--source", "/bin/ls", cwd=tmp_path)
    assert ended.status == 2
    assert "/bin/ls is not a Redis or Valkey server" in ended.err


def test_interrupted_it_stops_its_servers(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            command("demo", "--keys", "200000"),
            cwd=tmp_path,
            env=environment(TMPDIR=str(tmp_path)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            deadline = time.monotonic() + 60
            while len(list(tmp_path.glob("keyferry-*/s"))) < 2:
                assert time.monotonic() < deadline, "the servers do not start"
                time.sleep(0.05)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert b"nterrupted" in err
        assert leftovers(tmp_path) == []
