"""The two servers: the source loaded once, the target a fresh process for every run of every row."""

from __future__ import annotations

from types import TracebackType

from bench.samples import BenchError
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server, ServerBinary, find_binaries
from keyferry.wire.session import Session

WANTED = "redis-7.0"
REPLY_TIMEOUT_S = 60.0


def choose_binary() -> tuple[ServerBinary, str]:
    """The server program for both sides, and a remark when it is not the one that the goals are about.

    Raises:
        BenchError: There is no server at hand.
    """
    binaries = find_binaries()
    if not binaries:
        raise BenchError("no Redis or Valkey server is at hand")
    if WANTED in binaries:
        return binaries[WANTED], ""
    binary = binaries.get("redis-6.2", next(iter(binaries.values())))
    return binary, f"No Redis 7.0 was found, so both sides are {binary}; the goals are about 7.0."


class Arena:
    """Source and target of one data set. A context manager; ``fresh_target`` before each run."""

    def __init__(self, binary: ServerBinary) -> None:
        self.binary = binary
        self.source = Server(binary)
        self.target = Server(binary)

    def __enter__(self) -> Arena:
        self.source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.target.stop()
        self.source.stop()

    def fresh_target(self) -> None:
        """Another, empty target: no memory of the run before, neither in its allocator nor as a replica."""
        self.target.stop()
        self.target = Server(self.binary)
        self.target.__enter__()

    def session(self, server: Server) -> Session:
        return server.session(side="source" if server is self.source else "target", timeout_s=REPLY_TIMEOUT_S)


def cpu_seconds(deployment: Deployment) -> float:
    """User and system time of all nodes and of the children that they have waited for, to the microsecond."""
    names = ("used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children")
    total = 0.0
    for node in deployment.nodes:
        with node.session(timeout_s=REPLY_TIMEOUT_S) as session:
            fields = info(session, "cpu")
        total += sum(float(fields[name]) for name in names)
    return total


def key_count(deployment: Deployment) -> int:
    """DBSIZE of database 0, of all nodes together."""
    total = 0
    for node in deployment.nodes:
        with node.session(timeout_s=REPLY_TIMEOUT_S) as session:
            size = session.call("DBSIZE")
        if not isinstance(size, int):
            raise BenchError(f"DBSIZE says {size!r}")
        total += size
    return total


def info(session: Session, section: str) -> dict[str, str]:
    """One section of INFO, name -> value."""
    reply = session.call("INFO", section)
    if not isinstance(reply, bytes):
        raise BenchError(f"INFO {section} says {reply!r}")
    lines = reply.decode("utf-8", "backslashreplace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
