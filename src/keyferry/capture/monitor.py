"""Reads what MONITOR says. Pure.

A line is ``1700000000.123456 [0 127.0.0.1:50000] "set" "k" "v"``: time, database, client, and the arguments as
sdscatrepr writes them (src/sds.c): in quotes, quote and backslash behind a backslash, ``\\n \\r \\t \\a \\b``, any other
byte that is not printable as ``\\xhh``. Commands that a script calls come after it, with ``lua`` in place of the client;
those of a transaction come when it is executed, between ``multi`` and ``exec``. Commands of class admin, AUTH and HELLO
are not shown. Source: replicationFeedMonitors() in src/replication.c, https://redis.io/docs/latest/commands/monitor/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SCRIPT = b"lua"

_LINE = re.compile(rb'\+?[0-9]+\.[0-9]+ \[([0-9]+) (.*?)\] (?=")')
_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


@dataclass(frozen=True, slots=True)
class Heard:
    """One command as a server was told it.

    Attributes:
        database: The client's.
        client: Its address, or ``SCRIPT``.
        args: Name, keys and values.
    """

    database: int
    client: bytes
    args: tuple[bytes, ...]

    @property
    def in_script(self) -> bool:
        return self.client == SCRIPT


def read(data: bytes) -> Iterator[Heard]:
    """The commands of every whole line; what is no such line (``+OK``) is left out.

    Args:
        data: As it came from the connection; may end in the middle of a line.
    """
    for line in data.split(b"\n")[:-1]:
        head = _LINE.match(line)
        if head is None:
            continue
        args = tuple(map(_unescaped, _ARGUMENT.findall(line, head.end())))
        if args:
            yield Heard(int(head[1]), head[2], args)


def _unescaped(text: bytes) -> bytes:
    return _ESCAPE.sub(_byte, text) if b"\\" in text else text


def _byte(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    return bytes.fromhex(escape[1:].decode()) if len(escape) == 3 else _LETTERS.get(escape, escape)
