"""The dashboard of a running migration, seen from the migration: another process, started, watched and ended.

Nothing of a web server runs in the migration's own process: it can neither slow a switch nor end a run. The other
process knows the migration only through its control socket, as ``keyferry status`` does. What it needs to begin, and
how the run has ended, it reads from its standard input, one JSON object a line; where that ends without such a line
the migration has died. When it dies itself it is started again, a few times, on the same listening socket.

The token for what acts goes to nobody but the one who started the migration: over that pipe, on the terminal, or in a
file of theirs.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from rich.text import Text

from keyferry.app.http_place import HttpPlace, host_names, is_loopback, url
from keyferry.app.log import log_of
from keyferry.app.output import console_on
from keyferry.model.errors import ExitCode, InterruptedRun, KeyferryError, UsageError
from keyferry.telemetry.progress import Alert, Teller

PROGRAM = (sys.executable, "-P", "-m", "keyferry.app.dashboard")
PACKAGES = ("fastapi", "uvicorn", "sse_starlette", "prometheus_client")
READY = b"ready"
START_S = 20.0
"""So long the run waits for the server before it begins without it."""
PORT_S = 3.0
"""The dashboard of a run that was killed lingers for a moment on its port."""
END_S = 2.5
"""So long it may take to say the end to every browser; then it is killed."""
END_INTERRUPTED_S = 0.8
"""The same after a Ctrl-C: the whole command is to be over within 3 seconds."""
STARTS_AGAIN_MAX = 3
PAUSE_S = 0.5
"""Before it is started again; twice as long each time."""
LIVED_S = 600.0
"""One that has served so long is not counted as one more death in a row."""
OWN_FAULT = 70
GO_ON = "Give the same command again to go on."
LINE_BYTES_MAX = 1024
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Watched:
    """The run that is shown.

    Attributes:
        control: The path of its control socket, which may not be there yet.
    """

    kind: Literal["migrate", "sync"]
    name: str
    control: Path

    @property
    def token_file(self) -> Path:
        """Where the token stands when there is no terminal to print it on."""
        return self.control.with_name(f"dashboard-{self.control.stem.removeprefix('migrate-')}.token")


class Board(Protocol):
    """A dashboard, or none."""

    def __enter__(self) -> Board: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def ended(self, exit_code: int, sentence: str, hint: str = "", report: str = "") -> None: ...


def board_for(options: Mapping[str, Any], watched: Watched, tell: Teller) -> Board:
    """The dashboard that ``--http`` asks for; without it, one that does nothing."""
    place = options["http"]
    if place is None:
        return NoDashboard()
    # What stands in a log is read by many.
    private = sys.stderr.isatty() and not log_of(options).replaces_display
    report = str(options["report"] or "")
    return Dashboard(place, watched, tell, further=options["http_host"], private=private, error_report=report)


class NoDashboard:
    """Nobody asked for one."""

    def __enter__(self) -> NoDashboard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def ended(self, exit_code: int, sentence: str, hint: str = "", report: str = "") -> None:
        """Nobody hears it."""


class Dashboard:
    """Serves from the beginning of the block to its end, which tells the browsers how the run has ended.

    Args:
        place: Where to listen.
        tell: Gets what is said of it, from any thread; never the token.
        further: Names that browsers may ask for, besides those of the place.
        private: Standard error is for one person: the token is printed there.
        error_report: A file that says how far it was, when the block ends with an error; empty without one.
        program: What serves.

    Attributes:
        url: Once it listens.

    Raises:
        UsageError: At the beginning of the block: packages are missing, the place cannot be listened on, or the server
            does not start.
    """

    def __init__(
        self,
        place: HttpPlace,
        watched: Watched,
        tell: Teller,
        *,
        further: Sequence[str] = (),
        private: bool = False,
        error_report: str = "",
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._place, self._watched, self._tell = place, watched, tell
        self._further, self._program = tuple(further), tuple(program)
        self._private, self._error_report = private, error_report
        self._token = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._settled = threading.Event()
        self._up = self._opened = False
        self._child: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._hello: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._supervise, name="keyferry-dashboard", daemon=True)
        self.url = ""

    def __enter__(self) -> Dashboard:
        check_packages()
        self._listener = listening(self._place)
        try:
            address = self._listen_names(self._listener)
            self._start()
            self._announce(address)
            self._opened = True
        except BaseException:
            self._close(END_INTERRUPTED_S)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hurried = False
        if error is None:
            self.ended(ExitCode.DONE, "It has come to its end.")
        elif isinstance(error, KeyferryError):
            hurried = isinstance(error, InterruptedRun)
            self.ended(error.exit_code, error.message, error.hint, self._error_report)
        elif isinstance(error, Exception):
            self.ended(OWN_FAULT, "A mistake in Keyferry itself has ended it.", GO_ON)
        else:
            hurried = True
            self.ended(ExitCode.INTERRUPTED, "It was interrupted.", GO_ON)
        self._close(END_INTERRUPTED_S if hurried else END_S)

    def ended(self, exit_code: int, sentence: str, hint: str = "", report: str = "") -> None:
        """Tells every browser how the run has ended; only the first word counts.

        Args:
            exit_code: Of the command.
            report: A file that the report is in; empty where there is none.
        """
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
            end = {"exit_code": int(exit_code), "sentence": sentence, "hint": hint, "report": report}
            if self._child is not None:
                _send(self._child, {"ended": end})

    # Its process

    def _listen_names(self, listener: socket.socket) -> str:
        address, port = listener.getsockname()[:2]
        place = replace(self._place, port=port)
        self.url = url(place, address)
        self._hello = {
            "fd": listener.fileno(),
            "control": os.fspath(self._watched.control),
            "token": self._token,
            "hosts": host_names(place, address, self._further, socket.gethostname()),
            "kind": self._watched.kind,
            "name": self._watched.name,
        }
        return str(address)

    def _start(self) -> None:
        """Raises UsageError when the server ends at once."""
        try:
            self._child = self._spawned()
        except OSError as error:
            raise UsageError(f"The dashboard's process cannot be started: {error.strerror}.") from None
        self._thread.start()
        if not self._settled.wait(START_S):
            self._tell(Alert(f"The dashboard is not up after {START_S:g} s; nobody waits for it any longer."))
        elif not self._up:
            raise UsageError(
                "The dashboard's process ends as soon as it is started.",
                "Leave --http out, or see why with KEYFERRY_DEBUG=1.",
            )

    def _spawned(self) -> subprocess.Popen[bytes]:
        """Raises OSError."""
        assert self._listener is not None
        child = subprocess.Popen(
            self._program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if _debugs() else subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            pass_fds=(self._listener.fileno(),),
            # A Ctrl-C is for the migration alone, which then tells the browsers.
            start_new_session=True,
        )
        _send(child, self._hello)
        return child

    def _supervise(self) -> None:
        deaths = 0
        while (child := self._child) is not None:
            began_s = time.monotonic()
            self._hear(child)
            self._settled.set()
            if self._over.is_set() or not (self._up or self._opened):
                return
            deaths = 1 if time.monotonic() - began_s >= LIVED_S else deaths + 1
            if deaths > STARTS_AGAIN_MAX:
                break
            self._tell(
                Alert("The dashboard has died: it is started again. What it shows goes on without it.")
            )
            if self._over.wait(PAUSE_S * 2 ** (deaths - 1)) or not self._again():
                return
        self._tell(
            Alert("The dashboard dies again and again: it stays away. What it has shown goes on without it.")
        )
        with self._lock:
            if self._listener is not None:
                self._listener.close()

    def _again(self) -> bool:
        """Whether another one was started; one that cannot be started counts as one that has died."""
        with self._lock:
            if self._over.is_set():
                return False
            with suppress(OSError):
                self._child = self._spawned()
            return True

    def _hear(self, child: subprocess.Popen[bytes]) -> None:
        """Until it is no more."""
        assert child.stdout is not None
        with suppress(OSError, ValueError):
            while line := child.stdout.readline(LINE_BYTES_MAX):
                if line.strip() == READY:
                    self._up = True
                    self._settled.set()
        child.wait()
        with self._lock, suppress(OSError):
            child.stdout.close()
            child.stdin.close()  # type: ignore[union-attr]

    def _close(self, patience_s: float) -> None:
        """In bounded time, whatever the other process does."""
        self._over.set()
        with self._lock:
            child = self._child
            if child is not None:
                with suppress(OSError):
                    child.stdin.close()  # type: ignore[union-attr]
        if child is not None and self._thread.ident is not None:
            self._thread.join(patience_s)
            if self._thread.is_alive():
                child.kill()
                self._thread.join(1.0)
        if self._listener is not None:
            self._listener.close()
        with suppress(OSError, UnicodeError):
            # Our journal is free by now: another run of this name may have begun, with a token of its own.
            if self._watched.token_file.read_text() == f"{self._token}\n":
                self._watched.token_file.unlink()

    # What is said

    def _announce(self, address: str) -> None:
        """Says where it is. The token is printed on a terminal, and nowhere else: logs are read by many."""
        if not is_loopback(address):
            self._tell(
                Alert(
                    f"The dashboard listens on {address}, without TLS: whoever reaches it can read it, and act with the "
                    "token. On 127.0.0.1, behind ssh -L or a proxy of yours, only those you let do."
                )
            )
        if self._private:
            # In a sync there is nothing to act on.
            token = "" if self._watched.kind == "sync" else f"#token={self._token}"
            where = Text.assemble(("dashboard: ", "bold"), f"{self.url}{token}")
            console_on(sys.stderr).print(where)
        elif self._watched.kind == "sync":
            self._tell(f"The dashboard is at {self.url}.")
        else:
            file = self._watched.token_file
            _write_token(file, self._token)
            self._tell(f"The dashboard is at {self.url} and the token for what acts in {file}.")


def missing_packages() -> list[str]:
    """What it takes to serve, and is not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def check_packages() -> None:
    """Raises UsageError when a package that serves is missing."""
    if missing := missing_packages():
        raise UsageError(
            f"--http needs packages that are not installed: {', '.join(missing)}.",
            "pip install 'keyferry[http]'",
        )


def listening(place: HttpPlace) -> socket.socket:
    """A socket that listens there.

    Raises:
        UsageError: It cannot.
    """
    until_s = time.monotonic() + PORT_S
    while True:
        try:
            return _listening(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < until_s:
                time.sleep(0.1)
                continue
            # Not the error's own words, which repeat the address; a name that leads nowhere has none in errno.
            named = isinstance(error, socket.gaierror) or not error.errno
            why = str(error.strerror or error) if named else os.strerror(error.errno)  # type: ignore[arg-type]
        except UnicodeError:
            why = "that is no name of a host"
        raise UsageError(
            f"The dashboard cannot listen on {place}: {why}.",
            "Name another place with --http; port 0 takes any that is free.",
        ) from None


def _listening(place: HttpPlace) -> socket.socket:
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    # A name that leads to both is reached by both families of browsers over IPv4.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return socket.create_server((str(address[0]), int(address[1])), family=family, backlog=BACKLOG)


def _send(child: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    """Never waits: all that is ever sent fits into a pipe. One that has died hears nothing."""
    assert child.stdin is not None
    with suppress(OSError, ValueError):
        child.stdin.write(json.dumps(message).encode("ascii") + b"\n")


def _debugs() -> bool:
    return os.environ.get("KEYFERRY_DEBUG") == "1"


def _environment() -> dict[str, str]:
    """Ours, without the passwords of the servers: it speaks to none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
    return kept | ({"KEYFERRY_DEBUG": "1"} if _debugs() else {})


def _write_token(file: Path, token: str) -> None:
    """For the owner alone, and never half of it. Raises UsageError when it cannot be written."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"{token}\n")
        draft.replace(file)
    except OSError as error:
        raise UsageError(
            f"The dashboard's token cannot be written to {file}: {error.strerror}.",
            "Name another --state-dir.",
        ) from None
