"""What somebody on call meets at night: each time one sentence that names what fails, and what to do about it."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import command, environment, keyferry

from keyferry.app.delivery import errors_delivered
from keyferry.copy.failures import FailureLog
from keyferry.copy.replies import ServerBusy
from keyferry.copy.settled import Failure
from keyferry.model.address import parse_endpoint
from keyferry.model.errors import ServerError
from keyferry.telemetry.comparing import Difference
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.verify.difference_log import DifferenceLog
from keyferry.wire.session import ConnectionLost, Session

Flushed = Callable[..., Server]
COMMANDS = (["check"], ["copy"], ["sync", "--until-synced"], ["verify"])


@pytest.mark.parametrize("start", COMMANDS, ids=lambda start: start[0])
def test_a_database_that_is_not_there(start: list[str], flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    ended = keyferry(*start, f"{source.url}/99", target.url, cwd=tmp_path)
    assert ended.status == 3
    assert f"The source {source.url} does not give us database 99: ERR DB index is out of range." in ended.err
    assert "setting 'databases'" in ended.err
    assert not list(tmp_path.glob(".keyferry/*"))


def test_a_server_that_accepts_and_says_nothing(flushed: Flushed) -> None:
    server = flushed("redis-7.0")
    with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.stall(on=True)
        with pytest.raises(ConnectionLost, match="no reply came in time") as told:
            Session(parse_endpoint(proxy.url), "source", connect_timeout_s=0.3)
    assert "hangs" in told.value.hint


@pytest.mark.parametrize("option", ["--repair", "--delete-extra"])
def test_a_repair_of_a_replica_is_refused_at_once(
    option: str, flushed: Flushed, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), start_server("valkey-9.1", replicaof="127.0.0.1 1")
    ended = keyferry("verify", source.url, target.url, option, cwd=tmp_path)
    assert ended.status == 4
    assert "The target is a replica of 127.0.0.1:1." in ended.err
    assert keyferry("verify", source.url, target.url, cwd=tmp_path).status == 0, "looking is allowed"


def test_keys_that_must_not_be_read_are_told_as_such(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with source.session() as session:
        session.call("ACL", "SETUSER", "weak", "on", ">pw", "+@all", "~open*")
        try:
            url = source.url.replace("redis://", "redis://weak:pw@")
            ended = keyferry("verify", url, target.url, cwd=tmp_path)
        finally:
            session.call("ACL", "DELUSER", "weak")
    assert ended.status == 3
    assert "~*" in ended.err
    assert "Allow MEMORY USAGE" not in ended.err


def test_what_a_busy_server_says_is_one_sentence() -> None:
    busy = ServerBusy("target", "READONLY You can't write against a read only replica.")
    assert busy.sentence == "The target says: READONLY You can't write against a read only replica."
    assert ServerBusy("source", "LOADING").sentence == "The source says: LOADING."


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    failures, differences = tmp_path / "failures", tmp_path / "differences"
    failed = FailureLog(failures, None)
    differing = DifferenceLog(differences, None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError) as of_failures:
            failed.write([Failure(b"key", 0, "reason")])
        with pytest.raises(OSError) as of_differences:
            differing.write([(Difference(b"key", 0, "stale", "string", "string"), False)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert of_failures.value.filename == str(failures)
    assert of_differences.value.filename == str(differences)
    assert failed.place[1] == differing.place[1] == 0, "half a line does not count"


def test_a_report_that_cannot_be_written_hides_nothing(flushed: Flushed, tmp_path: Path) -> None:
    """What was done is said all the same; and so is why it was not done."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    name = "r" * 255  # may exist; the draft of it, whose name is longer, cannot
    for name_of, says in (("copy", "Copied"), ("verify", "Equal")):
        ended = keyferry(name_of, source.url, target.url, "--report", name, cwd=tmp_path)
        assert ended.status == 2
        assert ended.out.startswith(says)
        assert "The report" in ended.err
    options = {"as_json": False, "report": tmp_path / name}
    with (
        pytest.raises(ServerError, match="It is gone") as told,
        errors_delivered(options, "", dict),
    ):
        raise ServerError("target", "It is gone.", "Bring it back.")
    assert told.value.hint.startswith("Bring it back.\nThe report")


def test_output_onto_a_full_disk(flushed: Flushed, tmp_path: Path) -> None:
    """A log that is full does not change how a run ends; a result that is lost does."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for server in (source, target):
        with server.session() as session:
            session.call("SET", "k", server.url)
    full = Path("/dev/full").open("w")  # noqa: SIM115
    arguments = command("verify", source.url, target.url, "--rounds", "0")
    with full:
        log = subprocess.run(
            arguments, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=full, check=False
        )
        lost = [
            subprocess.run(
                [*arguments, *more],
                cwd=tmp_path,
                env=environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
            for more in ([], ["--json"])
        ]
    assert (log.returncode, log.stdout[:10]) == (1, b"Different:")
    for ended in lost:
        assert ended.returncode == 2
        assert b"Standard output cannot be written: No space left on device." in ended.stderr
