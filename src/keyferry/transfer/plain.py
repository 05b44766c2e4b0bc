"""The hot loop of the pure relay: keys about which nothing is unusual, from replies to RESTOREs."""

from __future__ import annotations

from keyferry.transfer.config import ExpiryMode, RelayConfig
from keyferry.transfer.requests import EXPIRING, LASTING, moved, named_restore, resigned


def is_plain(config: RelayConfig) -> bool:
    """Whether ``plain_keys`` is for this configuration."""
    return (
        not (config.hints or config.short_bytes) and config.expiry != ExpiryMode.REMAINING and config.absolute
    )


def plain_keys(
    config: RelayConfig, buffer: bytes, position: int, names: list[bytes]
) -> tuple[int, list[bytes], list[int], list[int]]:
    """Reads answers to DUMP (and PEXPIRETIME) for as long as they are whole, wanted and restored or re-signed.

    Args:
        position: Where the first key's answer begins in ``buffer``.
        names: The keys that are answered, in order, as arguments of a command.

    Returns:
        Where the first answer begins that was not taken, and for each key taken its command, the size of its
        payload in bytes, and its ``Method``.
    """
    actions, wanted, offset = config.actions, config.wanted, config.clock_offset_ms
    version = config.source_version.to_bytes(2, "little")
    asks_expiry, replaces = config.expiry == ExpiryMode.ABSOLUTE, config.replace
    biggest = config.payload_bytes_max
    find = buffer.find
    commands: list[bytes] = []
    sizes: list[int] = []
    methods: list[int] = []
    for name in names:
        line = find(b"\r\n", position)
        if line < 0 or buffer[position] != 36:
            break
        digits = buffer[position + 1 : line]
        if not digits.isdigit() or not 11 <= (size := int(digits)) <= biggest:
            break
        after = line + 2 + size
        expires_at = 0
        following = after + 2
        if asks_expiry:
            following = find(b"\r\n", after + 3) + 2
            if following == 1 or buffer[after : after + 3] != b"\r\n:":
                break
            number = buffer[after + 3 : following - 2]
            if number != b"-1":
                if not number.isdigit() or len(number) > 18:
                    break
                expires_at = moved(int(number), offset)
        elif buffer[after:following] != b"\r\n":
            break
        payload = buffer[line + 2 : after]
        action = actions[payload[0]]
        if action > 1 or buffer[after - 10 : after - 8] != version or not wanted[payload[0]]:
            break
        if action:
            payload = resigned(config, payload)
        if replaces and not expires_at:
            commands.append(LASTING % (name, size, payload))
        elif replaces:
            commands.append(EXPIRING % (name, len(b"%d" % expires_at), expires_at, size, payload))
        else:
            commands.append(named_restore(config, name, expires_at, payload))
        sizes.append(size)
        methods.append(action)
        position = following
    return position, commands, sizes, methods
