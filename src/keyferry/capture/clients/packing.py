"""Commands as the bytes of one packet; redis-py's own packer takes several times as long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def packed(encode: Callable[[Any], bytes], commands: Iterable[Sequence[Any]]) -> list[bytes]:
    """What `connection.pack_commands` gives, as one piece.

    Args:
        encode: of redis-py's encoders, the one whose bytes the authority has got; names with a blank ("XGROUP CREATE") become two words, as redis-py sends them.
        commands: names and arguments as redis-py takes them.
    """
    parts: list[bytes] = []
    for command in commands:
        name = command[0]
        if name.__class__ is str:
            words = name.encode().split() if " " in name else (name.encode(),)
        else:
            words = bytes(name).split()
        parts.append(b"*%d\r\n" % (len(command) - 1 + len(words)))
        parts.extend([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
        for argument in command[1:]:
            value = argument if argument.__class__ is bytes else encode(argument)
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return [b"".join(parts)]
