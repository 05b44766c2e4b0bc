"""The data that is copied, and the light client's few keys beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.samples import BenchError
from keyferry.testing.dataset import fill_mix, fill_strings
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

LIGHT_KEYS = tuple(b"light:%03d" % number for number in range(100))
LIGHT_VALUE = b"sixteen-bytes-of"
"""Always of this length, so that the recorded replies keep theirs."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """``fill`` puts ``keys`` keys on an empty server."""

    title: str
    keys: int
    fill: Callable[[Session, int], object]


def load(server: Server, data: DataSet, keys: int) -> int:
    """Fills the source once; returns what DBSIZE must be, the light client's keys included.

    Raises:
        BenchError: The server holds another number of keys than asked.
    """
    with server.session() as session:
        data.fill(session, keys)
        replies = session.pipeline([("SET", key, LIGHT_VALUE) for key in LIGHT_KEYS])
        size = session.call("DBSIZE")
    if any(reply != b"OK" for reply in replies) or size != keys + len(LIGHT_KEYS):
        raise BenchError(f"the source holds {size!r} keys instead of {keys + len(LIGHT_KEYS)}")
    return keys + len(LIGHT_KEYS)


DATA_SETS: dict[str, DataSet] = {
    "strings": DataSet("strings of 64 bytes, 30 % with expiry", 1_000_000, fill_strings),
    "mix": DataSet("keys of all types, 16 B to 4 KiB", 300_000, fill_mix),
}
