"""What a server and a cluster have in common, so that one test body serves both."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from keyferry.model.address import Endpoint
from keyferry.model.errors import Side
from keyferry.testing.binaries import ServerBinary
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, Reply


class Client(Protocol):
    """A conversation with a server (``Session``) or with a cluster (``ClusterClient``)."""

    side: Side

    def __enter__(self) -> Client: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def call(self, *args: Argument) -> Reply: ...

    def pipeline(self, commands: list[tuple[Argument, ...]]) -> list[Reply]: ...

    def exchange(self, commands: bytes, count: int) -> list[Reply]: ...

    def exchange_raw(self, commands: bytes) -> bytes: ...


class Deployment(Protocol):
    """A ``Server`` or a ``Cluster``.

    Attributes:
        binary: The program of all its nodes.
    """

    binary: ServerBinary

    @property
    def url(self) -> str: ...

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def nodes(self) -> Sequence[Server]: ...

    @property
    def primaries(self) -> list[Server]: ...

    def session(self, db: int = 0, *, side: Side = "source", timeout_s: float = 30.0) -> Client: ...
