"""The bytes of a relay's own commands. Pure Python only."""

from __future__ import annotations

from keyferry.payload.crc64 import crc64
from keyferry.transfer.config import MOVE_MAX_MS, ExpiryMode, HintMode, RelayConfig

TIME = b"*1\r\n$4\r\nTIME\r\n"


LASTING = b"*5\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$1\r\n0\r\n$%d\r\n%b\r\n$7\r\nREPLACE\r\n"
EXPIRING = b"*6\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%d\r\n$%d\r\n%b\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n"
"""The two common forms of ``restore``, for the hot loop."""


def scan_tail(config: RelayConfig) -> tuple[bytes, ...]:
    """What follows the cursor in SCAN."""
    tail: tuple[bytes, ...] = ()
    if config.scan_match:
        tail += (b"MATCH", config.scan_match)
    tail += (b"COUNT", b"%d" % config.scan_count)
    if config.scan_type:
        tail += (b"TYPE", config.scan_type)
    return tail


def request_template(config: RelayConfig, *, probe: bool = False) -> tuple[bytes, int]:
    """What is asked per key, as a template with as many pairs of length and name as the number says.

    Args:
        probe: GETRANGE for the first ``short_bytes`` bytes instead of DUMP.
    """
    slot = b"$%d\r\n%b\r\n"
    parts: list[bytes] = []
    if config.hints == HintMode.IDLETIME:
        parts.append(b"*3\r\n$6\r\nOBJECT\r\n$8\r\nIDLETIME\r\n" + slot)
    elif config.hints == HintMode.FREQ:
        parts.append(b"*3\r\n$6\r\nOBJECT\r\n$4\r\nFREQ\r\n" + slot)
    if probe:
        last = b"%d" % (config.short_bytes - 1)
        parts.append(b"*4\r\n$8\r\nGETRANGE\r\n" + slot + b"$1\r\n0\r\n$%d\r\n%b\r\n" % (len(last), last))
    else:
        parts.append(b"*2\r\n$4\r\nDUMP\r\n" + slot)
    if config.expiry == ExpiryMode.ABSOLUTE:
        parts.append(b"*2\r\n$11\r\nPEXPIRETIME\r\n" + slot)
    elif config.expiry == ExpiryMode.REMAINING:
        parts.append(b"*2\r\n$4\r\nPTTL\r\n" + slot)
    after = TIME if config.expiry == ExpiryMode.REMAINING else b""
    return b"".join(parts) + after, len(parts)


def measure_template(config: RelayConfig) -> tuple[bytes, int]:
    """As ``request_template``, for the size of a key in the source's memory."""
    samples = b"%d" % config.measure_samples
    tail = b"$7\r\nSAMPLES\r\n$%d\r\n%b\r\n" % (len(samples), samples)
    return b"*5\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n$%d\r\n%b\r\n" + tail, 1


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
    """One RESTORE.

    Args:
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
        name = b"$8\r\nIDLETIME\r\n" if config.hints == HintMode.IDLETIME else b"$4\r\nFREQ\r\n"
        number = b"%d" % hint
        options += b"%b$%d\r\n%b\r\n" % (name, len(number), number)
        count += 2
    time = b"%d" % ttl
    return b"*%d\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
        count,
        len(key),
        key,
        len(time),
        time,
        len(payload),
        payload,
        options,
    )
