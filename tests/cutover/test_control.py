"""The control socket: what is asked arrives, what is said comes back, and nobody can do harm with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyferry.cutover import control
from keyferry.cutover.control import CLIENTS_MAX, ControlServer
from keyferry.cutover.control_client import ControlClient, ask
from keyferry.cutover.control_place import connected, control_path, is_ours, live_paths, name_of
from keyferry.cutover.desk import WAITING_MAX, QueueDesk, Ticket
from keyferry.cutover.requests import REQUEST_BYTES_MAX, End, Event, Request, Said
from keyferry.model.errors import ExitCode, KeyferryError, RefusedError, UsageError
from keyferry.telemetry.samples import Samples

Act = Callable[[Request, Ticket], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return control_path(tmp_path / "state", "orders")


@pytest.fixture
def desk() -> QueueDesk:
    return QueueDesk()


@pytest.fixture
def listens(path: Path, desk: QueueDesk) -> Iterator[ControlServer]:
    with ControlServer(path, desk) as listens:
        yield listens


@contextmanager
def migration(desk: QueueDesk, act: Act) -> Iterator[None]:
    """The migration's own thread: takes what is asked, and acts."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            taken = desk.take()
            if taken is None:
                over.wait(0.005)
            else:
                act(*taken)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def nothing(_said: Said) -> None:
    return None


def lines_of(connection: socket.socket) -> list[dict[str, object]]:
    """What comes until the other end closes."""
    connection.settimeout(5)
    data = b""
    while received := connection.recv(65536):
        data += received
    return [json.loads(line) for line in data.splitlines()]


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def test_a_request_is_carried_out_and_answered(path: Path, desk: QueueDesk, listens: ControlServer) -> None:
    def act(request: Request, ticket: Ticket) -> None:
        assert request.options["yes"] is True and request.options["gate"] is None
        ticket.say("Writers hold.", writers=20)
        ticket.say("Authority is on the target.")
        ticket.end(0, "Cut over.", "", gate_ms=12.5)

    said: list[Said] = []
    with migration(desk, act):
        end = ask(path, Request("cutover", {"yes": True}), said.append)
    assert said == [Said("Writers hold.", {"writers": 20}), Said("Authority is on the target.")]
    assert end == End(0, "Cut over.", "", {"gate_ms": 12.5})


def test_status_needs_nobody_to_work(path: Path, desk: QueueDesk, listens: ControlServer) -> None:
    with ControlClient(path) as client:
        assert client.ask(Request("status"), nothing).facts["stage"] == "connecting"
        desk.publish({"stage": "following", "dirty": 3})
        first, later = (client.ask(Request("status"), nothing).facts for _ in range(2))
        assert {**first, "age_seconds": 0} == {"stage": "following", "dirty": 3, "age_seconds": 0}
        assert 0 <= first["age_seconds"] <= later["age_seconds"] < 5


def test_the_history_is_told_from_where_one_knows_it(
    path: Path, desk: QueueDesk, listens: ControlServer
) -> None:
    samples = Samples()
    with ControlClient(path) as client:
        assert client.ask(Request("history"), nothing).facts["rows"] == []
        for second in range(1, 6):
            samples.add(second * 1000, "copying", None)
        desk.publish_history(samples.as_dict())
        whole = client.ask(Request("history"), nothing).facts
        assert whole == json.loads(json.dumps(samples.as_dict()))
        newer = client.ask(Request("history", {"after_ms": 3000}), nothing).facts
        assert newer == {**whole, "rows": whole["rows"][3:]}
        samples.add(500, "copying", None)  # the clock is set back
        desk.publish_history(samples.as_dict())
        assert [
            row[0] for row in client.ask(Request("history", {"after_ms": 5000}), nothing).facts["rows"]
        ] == [500]
        end = client.ask(Request("report"), nothing)
        assert end.exit_code == ExitCode.REFUSED and end.sentence


def test_a_report_is_made_for_whoever_asks(path: Path) -> None:
    def report() -> dict[str, object]:
        assert threading.current_thread().name == "keyferry-control-client"
        return {"name": "orders"}

    with ControlServer(path, QueueDesk(report=report)), ControlClient(path) as client:
        assert client.ask(Request("report"), nothing) == End(0, "", "", {"name": "orders"})


def test_only_the_owner_gets_at_it(path: Path, listens: ControlServer) -> None:
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


STRANGER = """
import os, socket, sys
os.setuid(54321)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
try:
    heard = connection.recv(1)
except ConnectionError:
    heard = b""
print("heard" if heard else "let go")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_process_of_another_user_is_not_heard(desk: QueueDesk) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = control_path(Path(directory), "orders")
        with ControlServer(path, desk):
            path.parent.chmod(0o755)
            path.chmod(0o666)
            ended = subprocess.run(
                [sys.executable, "-c", STRANGER, str(path)], capture_output=True, timeout=20, check=True
            )
            assert ended.stdout == b"let go\n"


def test_somebody_elses_socket_is_not_spoken_to(
    path: Path, listens: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyferry.cutover.control_client.is_ours", lambda _connection: False)
    with pytest.raises(RefusedError, match="not your own process"):
        ControlClient(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello\n", "one line of JSON"),
        (b"[" * 50_000 + b"\n", "one line of JSON"),
        (b"[]\n", "JSON object"),
        (b"{}\n", "a command"),
        (b'{"command": "explode"}\n', "knows no command 'explode'"),
        (b'{"command": "pause", "options": {"hard": 1}}\n', "no option 'hard'"),
        (b'{"command": "cutover", "options": {"yes": 1}}\n', "yes of cutover has to be true or false"),
        (b'{"command": "cutover", "options": {"gate": "open"}}\n', "one of writers, pause, both, none"),
        (b'{"command": "cutover", "options": {"timeout_s": 0}}\n', "seconds, above 0"),
        (b'{"command": "throttle", "options": {"max_rate": NaN}}\n', "0 for none"),
        (b'{"command": "throttle", "options": {"max_rate": true}}\n', "0 for none"),
        (b'{"command": "throttle", "options": {"max_rate": 1%s}}\n' % (b"0" * 400), "0 for none"),
        (b'{"command": "cutover", "options": {"phase": "hold"}}\n', "one of target, target-dual"),
        (b"\xff\xfe\n", "one line of JSON"),
    ],
)
def test_nonsense_is_refused_and_the_connection_goes_on(
    line: bytes, said: str, path: Path, desk: QueueDesk, listens: ControlServer
) -> None:
    with connected(path) as connection:
        connection.sendall(line + b'{"command": "status"}\n')
        connection.shutdown(socket.SHUT_WR)
        refused, status = lines_of(connection)
    assert refused["exit_code"] == 2 and said in str(refused["end"])
    assert status["exit_code"] == 0 and "connecting" in str(status["facts"])
    assert desk.take() is None


def test_a_line_without_end_is_cut_off(path: Path, listens: ControlServer) -> None:
    with connected(path) as connection:
        connection.sendall(b"x" * REQUEST_BYTES_MAX)
        (refused,) = lines_of(connection)
    assert refused["exit_code"] == 2 and "shorter than" in str(refused["end"])


def test_a_request_in_pieces_is_one(path: Path, listens: ControlServer) -> None:
    with connected(path) as connection:
        for byte in b'{"command": "status"}\n':
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        assert [answer["exit_code"] for answer in lines_of(connection)] == [0]


def test_clients_are_counted_and_let_go(path: Path, listens: ControlServer) -> None:
    held = [ControlClient(path) for _ in range(CLIENTS_MAX)]
    assert all(client.ask(Request("status"), nothing).exit_code == 0 for client in held)
    with connected(path) as connection:
        (refused,) = lines_of(connection)
    assert refused["exit_code"] == 4 and "others talk" in str(refused["end"])
    for client in held:
        client.close()

    assert until(lambda: _is_heard(path))


def _is_heard(path: Path) -> bool:
    try:
        with ControlClient(path) as client:
            return client.ask(Request("status"), nothing).exit_code == 0
    except KeyferryError:
        return False


def test_an_idle_client_is_let_go(
    path: Path, listens: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "IDLE_S", 0.3)
    with connected(path) as connection:
        assert lines_of(connection) == []


def test_signs_of_life_keep_a_client_waiting(
    path: Path, desk: QueueDesk, listens: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ALIVE_S", 0.1)

    def act(_request: Request, ticket: Ticket) -> None:
        time.sleep(1.5)
        ticket.end(0, "Verified.")

    with migration(desk, act):
        assert ask(path, Request("verify"), nothing, timeout_s=1.0).sentence == "Verified."


def test_a_migration_that_is_stopped_is_told_from_one_that_works(path: Path) -> None:
    with frozen(path), pytest.raises(KeyferryError, match="does not answer") as found:
        ask(path, Request("pause"), nothing, timeout_s=0.5)
    assert found.value.exit_code == 3


@contextmanager
def frozen(path: Path) -> Iterator[None]:
    """A migration in a process that is stopped by SIGSTOP."""
    with elsewhere(path) as process:
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


ELSEWHERE = """
import sys, time
from pathlib import Path
from keyferry.cutover.control import ControlServer
from keyferry.cutover.desk import QueueDesk
server = ControlServer(Path(sys.argv[1]), QueueDesk())
print("listens", flush=True)
time.sleep(60)
"""


@contextmanager
def elsewhere(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A migration in a process of its own; killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", ELSEWHERE, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"listens\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_socket_of_a_killed_process_makes_room(path: Path, desk: QueueDesk) -> None:
    with elsewhere(path):
        with pytest.raises(RefusedError, match="runs already"):
            ControlServer(path, desk)
        assert list(live_paths(path.parent)) == [path]
    assert path.exists()
    assert list(live_paths(path.parent)) == []
    with pytest.raises(UsageError, match="No migration orders runs"):
        ControlClient(path)
    with ControlServer(path, desk):
        assert list(live_paths(path.parent)) == [path]
    assert not path.exists()


def test_dying_in_the_middle_is_told(path: Path) -> None:
    with elsewhere(path) as process, ControlClient(path) as client:
        threading.Timer(0.3, process.kill).start()
        with pytest.raises(KeyferryError, match="ended before it had answered") as found:
            client.ask(Request("cutover", {"yes": True}), nothing)
    assert "same keyferry migrate command" in found.value.hint


def test_what_is_no_socket_is_left_alone(path: Path, desk: QueueDesk) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(UsageError, match="no socket"):
        ControlServer(path, desk)
    assert path.read_text() == "mine"


def test_a_successor_keeps_its_socket(path: Path, desk: QueueDesk) -> None:
    first = ControlServer(path, desk)
    path.unlink()
    with ControlServer(path, desk):
        first.close()
        assert path.exists()


def test_too_long_a_path_is_said(tmp_path: Path, desk: QueueDesk) -> None:
    path = control_path(tmp_path / ("d" * 100), "orders")
    for use in (lambda: ControlServer(path, desk), lambda: ControlClient(path)):
        with pytest.raises(UsageError, match="longer than 107 bytes") as found:
            use()
        assert "--state-dir" in found.value.hint


@pytest.mark.parametrize("name", ["orders", "a/b", "..", "100%", "x" * 100])
def test_names_become_paths_and_back(name: str) -> None:
    path = control_path(Path("state"), name)
    assert path.parent == Path("state") and name_of(path) == name


def test_what_nobody_has_begun_is_withdrawn_with_its_client(
    path: Path, desk: QueueDesk, listens: ControlServer
) -> None:
    with connected(path) as connection:
        connection.sendall(Request("cutover", {"yes": True}).line())
        assert until(lambda: len(desk._waiting) == 1)
    assert until(lambda: desk._waiting[0][1].ended)
    assert desk.take() is None


def test_who_has_gone_before_it_was_heard_has_asked_nothing(
    path: Path, desk: QueueDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while this process was stopped: whoever asked has given up, and must not be served unseen."""
    gone = threading.Event()

    def late(connection: socket.socket) -> bool:
        return gone.wait(10) and is_ours(connection)

    monkeypatch.setattr(control, "is_ours", late)
    asked: list[Request] = []
    with migration(desk, lambda request, ticket: asked.append(request) or ticket.end(0, "Done.")):  # type: ignore[func-returns-value]
        with ControlServer(path, desk):
            with connected(path) as connection:
                connection.sendall(Request("cutover", {"yes": True}).line())
            gone.set()
            assert ask(path, Request("pause"), nothing).sentence == "Done."
        assert [request.command for request in asked] == ["pause"]


def test_what_was_taken_and_waits_is_withdrawn_too(
    path: Path, desk: QueueDesk, listens: ControlServer
) -> None:
    with connected(path) as connection:
        connection.sendall(Request("cutover", {"yes": True}).line())
        assert until(lambda: len(desk._waiting) == 1)
        taken = desk.take()
        assert taken is not None
    assert until(lambda: taken[1].ended)
    assert not taken[1].begin()


def test_who_has_to_wait_is_told(
    path: Path, desk: QueueDesk, listens: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 0.2)

    def later(_request: Request, ticket: Ticket) -> None:
        time.sleep(1.0)
        assert ticket.begin()
        time.sleep(1.0)
        ticket.end(0, "Verified.")

    said: list[Said] = []
    with migration(desk, later):
        assert ask(path, Request("verify"), said.append).sentence == "Verified."
    assert said == [Said(control.WAITS)]


def test_what_was_begun_goes_on_without_its_client(
    path: Path, desk: QueueDesk, listens: ControlServer
) -> None:
    with connected(path) as connection:
        connection.sendall(Request("cutover", {"yes": True}).line())
        assert until(lambda: len(desk._waiting) == 1)
        taken = desk.take()
        assert taken is not None
        ticket = taken[1]
        assert ticket.begin()
    time.sleep(3 * control.LOOK_S)
    assert not ticket.ended and not ticket.withdraw()
    for _ in range(5):
        ticket.say("Goes on.")
    ticket.end(0, "Cut over.")


def test_a_reader_that_reads_nothing_keeps_nobody_waiting(desk: QueueDesk) -> None:
    ticket = desk.ask(Request("verify"))
    for number in range(10_000):
        ticket.say(f"{number}")
    ticket.end(1, "Different.")
    ticket.say("too late")
    ticket.end(0, "too late")
    events = list(ticket.events(1.0))
    assert len(events) <= 257 and events[-1] == End(1, "Different.")
    assert events[-2] == Said("9999")


def test_the_desk_has_so_many_places(desk: QueueDesk) -> None:
    tickets = [desk.ask(Request("verify")) for _ in range(WAITING_MAX)]
    refused = desk.ask(Request("verify"))
    (end,) = refused.events(1.0)
    assert isinstance(end, End) and end.exit_code == 4
    tickets[0].withdraw()
    assert not desk.ask(Request("verify")).ended


def test_a_closed_desk_ends_everything(path: Path, desk: QueueDesk) -> None:
    events: list[Event] = []
    with ControlServer(path, desk) as server:
        waiting = threading.Thread(target=lambda: events.append(ask(path, Request("verify"), nothing)))
        waiting.start()
        assert until(lambda: len(desk._waiting) == 1)
        desk.close("The migration is finished.", "", 4)
        server.close()
        waiting.join(5)
    assert events == [End(4, "The migration is finished.")]
    assert list(desk.ask(Request("pause")).events(1.0)) == [End(4, "The migration is finished.")]
    assert desk.take() is None


def test_errors_end_a_ticket_as_they_end_a_command(desk: QueueDesk) -> None:
    ticket = desk.ask(Request("rollback"))
    ticket.fail(RefusedError("Not now.", "Later."), lines=["one"])
    assert list(ticket.events(1.0)) == [End(4, "Not now.", "Later.", {"lines": ["one"]})]


def test_a_request_is_always_whole() -> None:
    options = Request("cutover", {"yes": True}).options
    assert options["rollback"] is True and options["timeout_s"] is None and options["phase"] is None
    with pytest.raises(UsageError):
        Request("cutover", {"on_cutover": "x" * 5000})
