"""Real servers for tests, the demo and the benchmark: started, watched, stopped, killed, started again.

Each listens on 127.0.0.1 and on a unix socket in a directory of its own, keeps nothing on disk unless told,
and ends with the process that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from keyferry.model.address import Endpoint
from keyferry.model.errors import KeyferryError, Side
from keyferry.model.identity import Family
from keyferry.testing.binaries import ServerBinary, embedded_pair, find_binaries
from keyferry.wire.session import Session

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
START_ATTEMPTS = 8
PORTS = range(20_000, 32_000)
"""Below the range from which systems take ports of outgoing connections: a client that keeps dialling a
stopped server's port there would in the end be connected to itself."""
BUS_OFFSET = 10_000
"""From a cluster node's port to that of its bus (CLUSTER_PORT_INCR in cluster.h)."""
CLUSTER_PORTS = range(20_000, 22_000)
"""Of nodes, whose buses then have ports from the same range as all the rest."""
UNIX_PATH_BYTES_MAX = 100
LOG_TAIL_BYTES = 2_000

_NO_CONFIG: Mapping[str, str] = MappingProxyType({})
_PORT_TAKEN = "Address already in use"


class ServerStartError(KeyferryError):
    """A server of the test kit did not come up; the message ends with the tail of its log."""


class Server:
    """One real server process.

    Args:
        binary: The program to run.
        config: Directives of its configuration file, value as it is written there ("normal 0 0 0").
        data_dir: Where it keeps its files; None is its temporary directory.
    """

    def __init__(
        self, binary: ServerBinary, *, config: Mapping[str, str] = _NO_CONFIG, data_dir: Path | None = None
    ) -> None:
        self.binary = binary
        self._config = dict(config)
        self._directory = _short_directory()
        self._data_dir = self._directory if data_dir is None else data_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Server {self.binary.name} on port {self._port}>"

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """Without a password, even where ``requirepass`` is configured."""
        return f"redis://{HOST}:{self._port}"

    @property
    def nodes(self) -> list[Server]:
        """Itself, as a ``Deployment``."""
        return [self]

    @property
    def primaries(self) -> list[Server]:
        return [self]

    @property
    def unix_path(self) -> Path:
        return self._directory / "s"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.unix_path}"

    @property
    def endpoint(self) -> Endpoint:
        """With the password that ``requirepass`` configures, if any."""
        return Endpoint(host=HOST, port=self._port, password=self._config.get("requirepass", ""))

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def data_dir(self) -> Path:
        return self._data_dir

    def session(self, db: int = 0, *, side: Side = "source", timeout_s: float = 30.0) -> Session:
        return Session(self.endpoint, side, db=db, timeout_s=timeout_s)

    def log(self) -> str:
        """The tail of what the server wrote."""
        with contextlib.suppress(FileNotFoundError):
            return self._log_path.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "backslashreplace")
        return ""

    def configure(self, name: str, value: str) -> None:
        """A directive of the configuration file, from the next start on."""
        self._config[name] = value

    def start(self) -> None:
        """Starts it on a free port, or on its own one after ``kill``.

        Raises:
            ServerStartError: It does not answer within ``START_TIMEOUT_S``.
        """
        for _ in range(1 if self._port else START_ATTEMPTS):
            port = self._port or self._free_port()
            if self._launch(port):
                self._port = port
                return
        raise ServerStartError(f"{self.binary} did not start: {self.log()}")

    def stop(self) -> None:
        """Ends the process and removes its temporary directory. Harmless when it has ended before."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone. The port stays reserved in name for ``start``."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, keep_data: bool) -> None:
        """Another process on the same port.

        Args:
            keep_data: A running server saves first; one that was killed comes back with what it saved before.
        """
        if not keep_data:
            self.kill()
            for path in (
                self._data_dir / "dump.rdb",
                self._data_dir / "appendonly.aof",
                self._data_dir / "appendonlydir",
            ):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif self._process is not None:
            with self.session() as session:
                reply = session.call("SAVE")
            if reply != b"OK":
                raise KeyferryError(f"{self.binary} does not save: {reply!r}")
            self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """User and system time that the process has used so far."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except FileNotFoundError:
            import psutil  # a test-only dependency, for systems without /proc

            times = psutil.Process(self.pid).cpu_times()
            return float(times.user + times.system)
        # proc(5): utime and stime are fields 14 and 15; the command name before ")" took the first two.
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def _log_path(self) -> Path:
        return self._directory / "server.log"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise KeyferryError(f"{self.binary} is not running.")
        return self._process

    def _free_port(self) -> int:
        if self._config.get("cluster-enabled") == "yes":
            return _free_port(CLUSTER_PORTS, (0, BUS_OFFSET))
        return _free_port(PORTS, (0,))

    def _launch(self, port: int) -> bool:
        """True when it answers, False when another process took the port first."""
        self.unix_path.unlink(missing_ok=True)
        config_path = self._directory / "server.conf"
        config_path.write_text(_config_text(self._directives(port)))
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [self.binary.path, config_path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                start_new_session=True,  # the terminal's Ctrl-C is for us alone
            )
        self._guard = _guard(self._process.pid, self._directory)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self.kill()
                if _PORT_TAKEN in self.log():
                    return False
                break
            # Through the unix socket, which can only be this process, whoever has the port.
            if _answers(self.unix_path):
                return True
            time.sleep(0.005)
        self.kill()
        raise ServerStartError(f"{self.binary} did not start: {self.log()}")

    def _directives(self, port: int) -> dict[str, str]:
        directives = {
            "bind": HOST,
            "port": str(port),
            "unixsocket": str(self.unix_path),
            "dir": str(self._data_dir),
            "dbfilename": "dump.rdb",
            "daemonize": "no",
            "save": '""',
            "appendonly": "no",
        }
        if self.binary.family is Family.VALKEY or self.binary.version >= (7, 0, 0):
            directives["enable-debug-command"] = "yes"
        return directives | self._config


def _config_text(directives: Mapping[str, str]) -> str:
    return "".join(f"{name} {value}\n" for name, value in directives.items())


def _short_directory() -> Path:
    """A new temporary directory in which a unix socket's path fits into its address (104 bytes on macOS)."""
    directory = tempfile.mkdtemp(prefix="keyferry-")
    if len(os.fsencode(directory)) + 2 > UNIX_PATH_BYTES_MAX:
        Path(directory).rmdir()
        directory = tempfile.mkdtemp(prefix="keyferry-", dir="/tmp")
    return Path(directory)


def _free_port(ports: range, offsets: tuple[int, ...]) -> int:
    """One of ``ports`` that is free at each of the offsets."""
    for port in random.sample(ports, 50):
        if all(_is_free(port + offset) for offset in offsets):
            return port
    raise KeyferryError(f"No free port between {ports.start} and {ports.stop} on {HOST}.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False


def _guard(pid: int, directory: Path) -> subprocess.Popen[bytes]:
    """A shell that ends ``pid`` and removes ``directory`` when we are gone.

    Its standard input closes then, whatever ended us.

    Linux has a signal for a parent's death, but it comes when the starting *thread* ends.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -9 "$1"; rm -rf "$2"', "keyferry-guard", str(pid), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _answers(unix_path: Path) -> bool:
    """True when the server replies to PING and is not loading."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.connect(str(unix_path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    return False


__all__ = ["Server", "ServerBinary", "ServerStartError", "embedded_pair", "find_binaries"]
