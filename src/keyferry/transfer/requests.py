"""The bytes of a relay's own commands. Pure Python only."""

from __future__ import annotations

from keyferry.payload.crc64 import crc64
from keyferry.transfer.config import MOVE_MAX_MS, ExpiryMode, HintMode, RelayConfig

TIME = b"*1\r\n$4\r\nTIME\r\n"


LASTING = b"*5\r\n$7\r\nRESTORE\r\n%b$1\r\n0\r\n$%d\r\n%b\r\n$7\r\nREPLACE\r\n"
EXPIRING = b"*6\r\n$7\r\nRESTORE\r\n%b$%d\r\n%d\r\n$%d\r\n%b\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n"
"""The two common forms of ``restore``, for the hot loop."""


def argument(key: bytes) -> bytes:
    """A key as an argument of a command."""
    return b"$%d\r\n%b\r\n" % (len(key), key)


def scan_tail(config: RelayConfig) -> tuple[bytes, ...]:
    """What follows the cursor in SCAN."""
    tail: tuple[bytes, ...] = ()
    if config.scan_match:
        tail += (b"MATCH", config.scan_match)
    tail += (b"COUNT", b"%d" % config.scan_count)
    if config.scan_type:
        tail += (b"TYPE", config.scan_type)
    return tail


def request_pieces(config: RelayConfig, *, probe: bool = False) -> list[bytes]:
    """What is asked per key, in the pieces that stand around its name.

    Args:
        probe: GETRANGE for the first ``short_bytes`` bytes instead of DUMP.
    """
    pieces = [b""]
    if config.hints == HintMode.IDLETIME:
        pieces = [b"*3\r\n$6\r\nOBJECT\r\n$8\r\nIDLETIME\r\n", b""]
    elif config.hints == HintMode.FREQ:
        pieces = [b"*3\r\n$6\r\nOBJECT\r\n$4\r\nFREQ\r\n", b""]
    if probe:
        last = b"%d" % (config.short_bytes - 1)
        pieces[-1] += b"*4\r\n$8\r\nGETRANGE\r\n"
        pieces.append(b"$1\r\n0\r\n$%d\r\n%b\r\n" % (len(last), last))
    else:
        pieces[-1] += b"*2\r\n$4\r\nDUMP\r\n"
        pieces.append(b"")
    if config.expiry == ExpiryMode.ABSOLUTE:
        pieces[-1] += b"*2\r\n$11\r\nPEXPIRETIME\r\n"
        pieces.append(b"")
    elif config.expiry == ExpiryMode.REMAINING:
        pieces[-1] += b"*2\r\n$4\r\nPTTL\r\n"
        pieces.append(TIME)
    return pieces


def measure_pieces() -> list[bytes]:
    """As ``request_pieces``, for the size of a key in the source's memory, by five of its members (the default)."""
    return [b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n", b""]


def requests(pieces: list[bytes], names: list[bytes]) -> bytes:
    """The pieces around each name, key by key; woven as lists, without a format per key."""
    stride = 2 * len(pieces) - 1
    parts = [b""] * (stride * len(names))
    for place, piece in enumerate(pieces):
        parts[2 * place :: stride] = [piece] * len(names)
    for place in range(1, stride, 2):
        parts[place::stride] = names
    return b"".join(parts)


def string_payload(data: bytes, version: int) -> bytes:
    """A short string as DUMP would write it, uncompressed (rdb.c, rdbSaveRawString): length, bytes, footer."""
    length = bytes([len(data)]) if len(data) < 64 else bytes([0x40 | len(data) >> 8, len(data) & 0xFF])
    body = b"\x00" + length + data + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def moved(expires_at_ms: int, offset_ms: int) -> int:
    """An expiry on the target's clock; never 0, which is for ever."""
    if expires_at_ms > (1 << 63) - 1 - MOVE_MAX_MS:
        return expires_at_ms
    return max(1, expires_at_ms + offset_ms)


def expiry_on_target(config: RelayConfig, expires: int, time_ms: int) -> int:
    """Unix milliseconds on the target's clock; 0 for never. An expiry that is over stays in the past.

    Args:
        expires: What the source answered.
        time_ms: Its TIME right after that, where it answered PTTL.
    """
    if expires < 0:
        return 0
    if config.expiry == ExpiryMode.REMAINING:
        expires += time_ms
    return moved(expires, config.clock_offset_ms)


def resigned(config: RelayConfig, payload: bytes) -> bytes:
    """The payload under the target's version: see ``payload.crc64.resign_mask``."""
    footer = int.from_bytes(payload[-10:], "big") ^ int.from_bytes(config.resign_mask, "big")
    return payload[:-10] + footer.to_bytes(10, "big")


def restore(
    config: RelayConfig,
    key: bytes,
    expires_at_ms: int,
    payload: bytes,
    *,
    replace: bool | None = None,
    hint: int = -1,
    source_now_ms: int = 0,
) -> bytes:
    """One RESTORE of ``key``; see ``named_restore``."""
    name = argument(key)
    return named_restore(
        config, name, expires_at_ms, payload, replace=replace, hint=hint, source_now_ms=source_now_ms
    )


def named_restore(
    config: RelayConfig,
    name: bytes,
    expires_at_ms: int,
    payload: bytes,
    *,
    replace: bool | None = None,
    hint: int = -1,
    source_now_ms: int = 0,
) -> bytes:
    """One RESTORE.

    Args:
        name: The key as ``argument`` writes it.
        expires_at_ms: Unix milliseconds on the target's clock; 0 is for ever.
        replace: None is what the configuration says.
        hint: IDLETIME in seconds or FREQ, as the configuration says; -1 is none.
        source_now_ms: Unix milliseconds on the source's clock, where the remaining time is sent.
    """
    if replace is None:
        replace = config.replace
    count, ttl = 4 + replace, expires_at_ms
    options = b"$7\r\nREPLACE\r\n" if replace else b""
    if expires_at_ms and config.absolute:
        options += b"$6\r\nABSTTL\r\n"
        count += 1
    elif expires_at_ms:
        ttl = max(1, expires_at_ms - config.clock_offset_ms - source_now_ms)
    if hint >= 0:
        option = b"$8\r\nIDLETIME\r\n" if config.hints == HintMode.IDLETIME else b"$4\r\nFREQ\r\n"
        number = b"%d" % hint
        options += b"%b$%d\r\n%b\r\n" % (option, len(number), number)
        count += 2
    time = b"%d" % ttl
    return b"*%d\r\n$7\r\nRESTORE\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
        count,
        name,
        len(time),
        time,
        len(payload),
        payload,
        options,
    )
