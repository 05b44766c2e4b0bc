"""What the cases are made of: templates of keys, a server's abilities, and the edges of its encodings."""

from __future__ import annotations

import random
from dataclasses import dataclass

from keyferry.model.identity import Family
from keyferry.wire.resp import Argument

Command = tuple[Argument, ...]
Version = tuple[int, int, int]

KEY = b"\x00the key\x00"
"""Stands for the key in a template's command that does not have it after its first word."""


@dataclass(frozen=True, slots=True)
class Template:
    """How to build one value under any key.

    Attributes:
        name: "type:what".
        commands: Without the key, which ``placed`` puts in.
        encoding: As OBJECT ENCODING says it on the server that this template is for.
        kind: As TYPE says it, where the name does not.
        field_expiry: True for a hash with fields that expire.
    """

    name: str
    commands: list[Command]
    encoding: str
    kind: str = ""
    field_expiry: bool = False

    @property
    def type(self) -> str:
        return self.kind or self.name.partition(":")[0]


def placed(command: Command, key: bytes) -> Command:
    """The command with the key in: for ``KEY``, else after the first word (XGROUP: second; DEBUG: none)."""
    if KEY in command:
        return tuple(key if part == KEY else part for part in command)
    if command[0] == "DEBUG":
        return command
    at = 2 if command[0] == "XGROUP" else 1
    return (*command[:at], key, *command[at:])


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the encodings and commands of a server depend on."""

    family: Family
    version: Version

    def at_least(self, redis: tuple[int, int], valkey: tuple[int, int] = (0, 0)) -> bool:
        return self.version[:2] >= (redis if self.family is Family.REDIS else valkey)

    @property
    def compact(self) -> str:
        """The encoding of small hashes and sorted sets."""
        return "listpack" if self.at_least((7, 0)) else "ziplist"

    @property
    def small_list(self) -> str:
        return "listpack" if self.at_least((7, 2)) else "quicklist"

    @property
    def small_set(self) -> str:
        return "listpack" if self.at_least((7, 2)) else "hashtable"

    @property
    def has_field_expiry(self) -> bool:
        return self.at_least((7, 4), (9, 0))


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes that do not compress, always the same."""
    return random.Random(seed).randbytes(length)


INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INTEGERS = [
    *(0, 1, 12, 13, 100, 127, 128, -1, -128, -129, 4095, 4096, -4096, -4097, 32767, 32768, -32768, -32769),
    *(8388607, 8388608, -8388608, -8388609, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, INT64_MAX, INT64_MIN),
]
"""Both sides of each integer width in ziplists (4, 8, 16, 24, 32, 64 bits), listpacks (7, 13) and intsets."""
LOOKALIKES = [
    b"",
    b"007",
    b"+1",
    b"-0",
    b" 1",
    b"1 ",
    b"1.0",
    b"1e3",
    b"9223372036854775808",
    b"-9223372036854775809",
]
"""Strings that a server must not take for integers."""
LENGTHS = [1, 63, 64, 65, 253, 254, 255, 4095, 4096, 4097]
"""Both sides of each length form in ziplists (6, 14 bits; previous length 254) and listpacks (6, 12 bits)."""
SCORES = [
    *("0", "-0", "1", "-1", "inf", "-inf", "1e-300", "5e-324", "2.2250738585072014e-308"),
    *(
        "0.30000000000000004",
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "9007199254740993",
        "3.14159265358979",
    ),
    *("4294967296", "123456789012345680", "0.1", "-2.5e-7", "1e21", "1e17"),
]
"""inf, denormal, 17 digits, integers that only some servers write without an exponent."""
BINARY = bytes(range(256))
