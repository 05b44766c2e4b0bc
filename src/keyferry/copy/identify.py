"""Which server this is: make, version, payload version, process; and how far its clock is off.

Asks only what costs nothing: INFO (HELLO where INFO is forbidden) and one DUMP of a small value. The source
is never written to.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass

from keyferry.copy.info import Info, info_text, parse_info
from keyferry.copy.replies import Verdict, verdict
from keyferry.model.errors import ServerAway
from keyferry.model.identity import Family, ServerIdentity
from keyferry.model.keys import RESERVED_PREFIX
from keyferry.model.topology import ALL_SLOTS
from keyferry.payload.names import slot
from keyferry.payload.types import rdb_version_of
from keyferry.wire.resp import Reply, ReplyError
from keyferry.wire.session import Session

PROBE_BYTES_MAX = 64 * 1024
"""Largest value, by MEMORY USAGE, that is dumped only to see its footer."""
PROBE_TRIES = 3
PROBE_EXPIRY_MS = 10_000
"""How long a probe key lives on the target if we cannot delete it."""
CLOCK_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """One clock minus another; the truth lies within ``uncertainty_ms`` of ``offset_ms``."""

    offset_ms: float
    uncertainty_ms: float


def identify(session: Session, slots: frozenset[int] = ALL_SLOTS, *, writes: bool = True) -> ServerIdentity:
    """Who answers on this connection.

    ``slots``: those of the node, for the probe key on a target. ``writes``: whether there may be one.

    The payload version is read from the footer of a DUMP: on the source of a small existing key of the
    connection's database, on a target that may be written to of a short-lived key under the reserved prefix. Where
    neither can be had, the version table decides.

    Raises:
        ServerAway: It asks us to come again, or the connection broke.
        ProtocolError: The peer does not speak RESP.
    """
    reply = session.call("INFO", "server")
    if isinstance(reply, ReplyError) and verdict(reply.message) is Verdict.WAIT:
        raise ServerAway(
            session.side, f"The {session.side} {session.endpoint} says: {reply.message.rstrip('.')}."
        )
    found = (
        identity_of(parse_info(reply))
        if isinstance(reply, bytes)
        else identity_of_hello(session.call("HELLO"))
    )
    return with_footer(found, footer_version(session, slots, writes=writes))


def identity_of(info: Info) -> ServerIdentity:
    """The identity that INFO's server section describes, with the payload version of the table."""
    family = Family.VALKEY if info_text(info, "server", "valkey_version") else Family.REDIS
    version = _version(info_text(info, "server", f"{family.value}_version"))
    return ServerIdentity(
        family, version, rdb_version_of(family, version), info_text(info, "server", "run_id")
    )


def identity_of_hello(reply: Reply) -> ServerIdentity:
    """As ``identity_of``, from HELLO's reply (>= 6.2), which no ACL forbids; without a run id."""
    fields = dict(zip(reply[::2], reply[1::2], strict=False)) if isinstance(reply, list) else {}
    family = Family.VALKEY if fields.get(b"server") == b"valkey" else Family.REDIS
    text = fields.get(b"version")
    version = _version(text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else "")
    return ServerIdentity(family, version, rdb_version_of(family, version))


def with_footer(identity: ServerIdentity, rdb_version: int) -> ServerIdentity:
    """The identity with the payload version that was seen; 0 keeps what the table says."""
    return ServerIdentity(
        identity.family, identity.version, rdb_version or identity.rdb_version, identity.run_id
    )


def footer_version(session: Session, slots: frozenset[int] = ALL_SLOTS, *, writes: bool = True) -> int:
    """The RDB version in the footer of a DUMP of this server; 0 when none could be had. Arguments as of ``identify``."""
    if session.side == "target" and writes:
        return _footer_of_probe(session, slots)
    for _ in range(PROBE_TRIES):
        key = session.call("RANDOMKEY")
        if not isinstance(key, bytes):
            return 0
        size = session.call("MEMORY", "USAGE", key, "SAMPLES", 1)
        if (
            isinstance(size, int)
            and size <= PROBE_BYTES_MAX
            and (version := _footer(session.call("DUMP", key)))
        ):
            return version
    return 0


def probe_name(slots: frozenset[int] = ALL_SLOTS) -> bytes:
    """A name under the reserved prefix that nobody else uses, in one of these slots of a cluster."""
    while True:
        name = RESERVED_PREFIX + b"probe:" + secrets.token_hex(8).encode()
        if not slots or slot(name) in slots:
            return name


def _footer_of_probe(session: Session, slots: frozenset[int]) -> int:
    name = probe_name(slots)
    replies = session.pipeline([("SET", name, "x", "PX", PROBE_EXPIRY_MS), ("DUMP", name), ("UNLINK", name)])
    if isinstance(replies[2], ReplyError):
        session.call("DEL", name)
    return _footer(replies[1])


def _footer(payload: Reply) -> int:
    # type byte | value | RDB version, 2 bytes little-endian | CRC64, 8 bytes (cluster.c, createDumpPayload)
    return (
        int.from_bytes(payload[-10:-8], "little") if isinstance(payload, bytes) and len(payload) > 10 else 0
    )


def server_clock(session: Session, samples: int = CLOCK_SAMPLES) -> ClockOffset | None:
    """How far the server's clock is ahead of ``time.perf_counter``, by TIME. None when it refuses.

    It is taken as that of the middle of the fastest round trip; the error is at most half of that round trip.

    Raises:
        ConnectionLost: The connection broke.
    """
    best: ClockOffset | None = None
    for _ in range(samples):
        began = time.perf_counter()
        reply = session.call("TIME")
        ended = time.perf_counter()
        server_ms = time_ms(reply)
        if server_ms is None:
            return None
        found = ClockOffset(server_ms - (began + ended) * 500, (ended - began) * 500)
        if best is None or found.uncertainty_ms < best.uncertainty_ms:
            best = found
    return best


def clock_offset(source: Session, target: Session, samples: int = CLOCK_SAMPLES) -> ClockOffset | None:
    """How far the target's clock is ahead of the source's; None when either refuses TIME. Raises as above."""
    ours, theirs = server_clock(source, samples), server_clock(target, samples)
    return between(ours, theirs) if ours is not None and theirs is not None else None


def between(one: ClockOffset, other: ClockOffset) -> ClockOffset:
    """The other clock minus the one, from the differences of both to a third."""
    return ClockOffset(other.offset_ms - one.offset_ms, one.uncertainty_ms + other.uncertainty_ms)


def time_ms(reply: Reply) -> float | None:
    """TIME's reply as Unix milliseconds; None when it is something else."""
    match reply:
        case [bytes(seconds), bytes(microseconds)]:
            return int(seconds) * 1000 + int(microseconds) / 1000
    return None


def _version(text: str) -> tuple[int, int, int]:
    numbers = [int(part) for part in re.findall(r"[0-9]+", text)[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return major, minor, patch
