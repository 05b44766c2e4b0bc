"""Every encoding of every type that a server has, each as a named key with the commands that build it.

The same case builds the same value on every server; only the encoding differs, and ``Case.encoding`` says
which one this server uses. Edges are those of the encodings: lengths and integers at which a listpack, a
ziplist or the payload changes its form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyferry.model.errors import KeyferryError
from keyferry.model.identity import Family
from keyferry.testing.case_values import (
    BINARY,
    INT64_MAX,
    INT64_MIN,
    INTEGERS,
    LENGTHS,
    LOOKALIKES,
    SCORES,
    Abilities,
    Command,
    Template,
    Version,
    noise,
    placed,
)
from keyferry.testing.deployment import Client
from keyferry.testing.stream_cases import stream_templates
from keyferry.wire.resp import Argument, ReplyError

FAR_MS = 4_102_444_800_123
"""2100-01-01 and 123 ms: an expiry that no test lives to see, with odd milliseconds."""
STEP_MS = 1_000_003


@dataclass(frozen=True, slots=True)
class Case:
    """One key.

    Attributes:
        name: "type:what"; unique.
        key: Unique among the cases of one server.
        type: As TYPE says it.
        commands: What builds it, in order.
        encoding: As OBJECT ENCODING says it on this server; empty where it depends on the key's length, too.
        expires_at_ms: Of the whole key; None is for ever.
        field_expiry: True for a hash with fields that expire.
    """

    name: str
    key: bytes
    type: str
    commands: tuple[Command, ...]
    encoding: str
    expires_at_ms: int | None = None
    field_expiry: bool = False


ODD_NAMES: dict[str, bytes] = {
    "empty": b"",
    "NUL": b"nul\x00inside",
    "CR LF": b"line\r\nbreak\r\n$3\r\n",
    "quotes": b"\"double\" 'single' `back`",
    "spaces": b"  spaces and\ttabs ",
    "glob characters": b"*?[a-z]^",
    "backslash": b"back\\slash\\x00",
    "5,000 bytes": b"long" * 1250,
    "invalid UTF-8": b"\xff\xfe\xc3\x28\xed\xa0\x80",
    "UTF-8": "Schlüssel ключ 🔑".encode(),
    "closing brace": b"a}b",
    "empty tag": b"{}x",
    "only a brace": b"}",
    "tag": b"{tag}x",
    "open tag": b"{open",
    "nested tag": b"{{a}}b",
    "number": b"12345",
    "minus": b"--help",
}
"""Key names that break careless tools."""


def cases_for(version: Version, family: Family) -> list[Case]:
    """All that a server of this make can hold: every value for ever, then once more with an expiry."""
    server = Abilities(family, version)
    parts = (_strings, _lists, _sets, _sorted_sets, _hashes, _field_expiry, _geo, stream_templates)
    templates = [template for part in parts for template in part(server)]
    return [
        *(_case(template, b"case:" + template.name.encode()) for template in templates),
        *(
            _case(template, b"expiring:" + template.name.encode(), FAR_MS + i * STEP_MS)
            for i, template in enumerate(templates)
        ),
        *(_case(_named(server, what, key), key) for what, key in ODD_NAMES.items()),
    ]


def build(client: Client, cases: list[Case]) -> None:
    """Creates the keys.

    Raises:
        KeyferryError: A command was refused; the message names case and command.
    """
    labelled = [(case.name, command) for case in cases for command in case.commands]
    replies = client.pipeline([command for _, command in labelled])
    for (name, command), reply in zip(labelled, replies, strict=True):
        if isinstance(reply, ReplyError):
            raise KeyferryError(f"Case {name}: {command[0]!r} was refused: {reply.message}")


def _case(template: Template, key: bytes, expires_at_ms: int | None = None) -> Case:
    commands = [placed(command, key) for command in template.commands]
    name = template.name
    if expires_at_ms is not None:
        commands.append(("PEXPIREAT", key, expires_at_ms))
        name += ", expiring"
    return Case(
        name, key, template.type, tuple(commands), template.encoding, expires_at_ms, template.field_expiry
    )


def _named(server: Abilities, what: str, key: bytes) -> Template:
    """A hash that holds its own name, so that a value under a wrong name shows."""
    fields: Command = ("HSET", "name", key, "", BINARY[:40])
    return Template(f"name:{what}", [fields], server.compact if len(key) <= 64 else "hashtable", "hash")


def _strings(server: Abilities) -> Iterator[Template]:
    for number in INTEGERS:
        yield Template(f"string:int {number}", [("SET", number)], "int")
    for i, text in enumerate(LOOKALIKES):
        yield Template(f"string:text {i}", [("SET", text)], "embstr" if len(text) < 10 else "")
    yield Template("string:zero byte", [("SET", b"\x00")], "embstr")
    yield Template("string:embstr", [("SET", b"in place")], "embstr")
    yield Template("string:raw", [("SET", b"long" * 50)], "raw")
    yield Template("string:raw by append", [("SET", b"12"), ("APPEND", b"34")], "raw")
    yield Template("string:binary", [("SET", BINARY)], "raw")
    # 6, 14 and 32 bits hold a length in the payload.
    for length in (44, 45, 63, 64, 16383, 16384):
        yield Template(f"string:{length} bytes", [("SET", noise(length))], "raw" if length > 64 else "")
    yield Template("string:compressible", [("SET", b"All work and no play. " * 10_000)], "raw")
    yield Template("string:incompressible", [("SET", noise(300_000))], "raw")
    yield Template("string:bitmap", [("SETBIT", bit, 1) for bit in (0, 7, 8, 100_003)], "raw")
    sparse: Command = ("PFADD", *range(20))
    yield Template("string:hyperloglog sparse", [sparse], "raw")
    yield Template(
        "string:hyperloglog dense",
        [("PFADD", *range(start, start + 1000)) for start in range(0, 8000, 1000)],
        "raw",
    )


def _lists(server: Abilities) -> Iterator[Template]:
    small = server.small_list
    yield Template("list:one", [("RPUSH", "a")], small)
    yield Template("list:small", [("RPUSH", *(b"item %d" % i for i in range(20)))], small)
    yield Template("list:integers", [("RPUSH", *INTEGERS)], small)
    yield Template("list:lookalikes", [("RPUSH", *LOOKALIKES, BINARY)], small)
    yield Template("list:empty elements", [("RPUSH", b"", b"", b"x", b"")], small)
    yield Template("list:lengths", [("RPUSH", *(noise(n) for n in LENGTHS))], "quicklist")
    yield Template(
        "list:many nodes", [("RPUSH", *(b"element %d " % i * 5 for i in range(2000)))], "quicklist"
    )
    yield Template("list:repetitive", [("RPUSH", *([b"the same"] * 5000))], "quicklist")
    yield Template(
        "list:large elements",
        [("RPUSH", noise(20_000), b"small", b"z" * 50_000, b"", noise(9_000))],
        "quicklist",
    )
    if server.at_least((7, 0)):
        # Only servers from 7.0 know nodes of one plain element, and make them above 1 GiB or (later) 8 KiB.
        yield Template(
            "list:plain nodes",
            [
                ("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200b"),
                ("RPUSH", noise(500), b"small", b"p" * 500, b"1", noise(9_000)),
                ("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0"),
            ],
            "quicklist",
        )


def _sets(server: Abilities) -> Iterator[Template]:
    small = server.small_set
    yield Template("set:intset 16", [("SADD", -32768, -1, 0, 5, 32767)], "intset")
    yield Template("set:intset 32", [("SADD", -(2**31), 32768, 7, 2**31 - 1)], "intset")
    yield Template("set:intset 64", [("SADD", INT64_MIN, 2**31, 7, INT64_MAX)], "intset")
    yield Template("set:intset full", [("SADD", *range(0, 512 * 3, 3))], "intset")
    yield Template("set:integers in a table", [("SADD", *range(2000))], "hashtable")
    yield Template("set:small", [("SADD", "a", "b", "c", b"", BINARY[:60])], small)
    yield Template("set:mixed", [("SADD", *INTEGERS, *LOOKALIKES)], small)
    yield Template("set:many", [("SADD", *(b"member %d" % i for i in range(1500)))], "hashtable")
    yield Template("set:long members", [("SADD", *(noise(n) for n in LENGTHS), BINARY)], "hashtable")


def _sorted_sets(server: Abilities) -> Iterator[Template]:
    scored: list[Argument] = [
        part for i, score in enumerate(SCORES) for part in (score, b"m%02d %s" % (i, score.encode()))
    ]
    integers: list[Argument] = [part for number in INTEGERS for part in (number, number)]
    padding: list[Argument] = [part for i in range(300) for part in (repr(i / 7), b"member %d" % i)]
    yield Template("zset:small", [("ZADD", 1, "one", 2, "two", "2.5", "")], server.compact)
    yield Template("zset:scores", [("ZADD", *scored)], server.compact)
    yield Template("zset:integers", [("ZADD", *integers)], server.compact)
    yield Template("zset:ties", [("ZADD", 1, "b", 1, "a", 1, b"\xff", 1, b"\x00", 0, "z")], server.compact)
    yield Template("zset:sum", [("ZADD", "0.1", "m"), ("ZINCRBY", "0.2", "m")], server.compact)
    yield Template("zset:table of scores", [("ZADD", *scored, *padding)], "skiplist")
    yield Template(
        "zset:long members", [("ZADD", *(part for n in LENGTHS for part in (n, noise(n))))], "skiplist"
    )
    yield Template(
        "zset:many ties", [("ZADD", *(part for i in range(1000) for part in (i % 3, b"t%d" % i)))], "skiplist"
    )


def _hashes(server: Abilities) -> Iterator[Template]:
    yield Template(
        "hash:small", [("HSET", "name", "value", "", "empty field", "empty value", "")], server.compact
    )
    yield Template("hash:integers", [("HSET", *(part for n in INTEGERS for part in (n, -n)))], server.compact)
    yield Template(
        "hash:lookalikes", [("HSET", *(part for text in LOOKALIKES for part in (text, text)))], server.compact
    )
    yield Template("hash:binary", [("HSET", b"\x00\r\n", BINARY[:64], b"\xff\xfe", b"\x00")], server.compact)
    yield Template(
        "hash:long values",
        [("HSET", *(part for n in LENGTHS for part in (b"f%d" % n, noise(n))))],
        "hashtable",
    )
    yield Template(
        "hash:many",
        [("HSET", *(part for i in range(1000) for part in (b"field %d" % i, i * i)))],
        "hashtable",
    )


def _field_expiry(server: Abilities) -> Iterator[Template]:
    if not server.has_field_expiry:
        return
    # Valkey keeps a hash with field expiry in a table whatever its size.
    small = "listpackex" if server.family is Family.REDIS else "hashtable"
    far = "HPEXPIREAT"
    yield Template(
        "hash:field expiry",
        [
            ("HSET", "a", 1, "b", "", "", "empty", b"\x00\xff", BINARY[:60], "for ever", "x"),
            (far, FAR_MS, "FIELDS", 2, "a", ""),
            (far, FAR_MS + STEP_MS, "FIELDS", 1, b"\x00\xff"),
        ],
        small,
        field_expiry=True,
    )
    yield Template(
        "hash:all fields expire",
        [("HSET", "a", 1, "b", 2), (far, FAR_MS, "FIELDS", 2, "a", "b")],
        small,
        field_expiry=True,
    )
    yield Template(
        "hash:field expiry in a table",
        [
            ("HSET", *(part for i in range(1000) for part in (b"f%d" % i, b"value %d" % i))),
            *((far, FAR_MS + i * STEP_MS, "FIELDS", 1, b"f%d" % i) for i in range(0, 1000, 3)),
        ],
        "hashtable",
        field_expiry=True,
    )
    yield Template(
        "hash:field expiry, long values",
        [
            ("HSET", *(part for n in LENGTHS for part in (b"f%d" % n, noise(n)))),
            (far, FAR_MS, "FIELDS", 1, "f254"),
        ],
        "hashtable",
        field_expiry=True,
    )
    yield Template(
        "hash:field expiry taken away",
        [("HSET", "a", 1, "b", 2), (far, FAR_MS, "FIELDS", 2, "a", "b"), ("HPERSIST", "FIELDS", 2, "a", "b")],
        small,
    )


def _geo(server: Abilities) -> Iterator[Template]:
    places: Command = (
        "GEOADD",
        "13.361389",
        "38.115556",
        "Palermo",
        "15.087269",
        "37.502669",
        "Catania",
        "-180",
        "85.05",
        "edge",
    )
    yield Template("geo:places", [places], server.compact, "zset")
