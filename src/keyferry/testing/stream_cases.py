"""The cases of streams: entries, groups, consumers, pending entries in every state that commands make."""

from __future__ import annotations

from collections.abc import Iterator

from keyferry.testing.case_values import (
    BINARY,
    INTEGERS,
    KEY,
    LENGTHS,
    LOOKALIKES,
    Abilities,
    Command,
    Template,
    noise,
)

DELIVERED_MS = 1_650_000_000_007
"""A delivery time that commands can set; any in the past would do."""
ID_MAX = f"{2**64 - 1}-{2**64 - 1}"


def stream_templates(server: Abilities) -> Iterator[Template]:
    """All of them; the encoding is "stream" everywhere."""
    for name, commands in [*_entries().items(), *_groups().items(), *_pending().items()]:
        yield Template(f"stream:{name}", commands, "stream")
    if server.at_least((7, 0)):
        for name, commands in _since_7().items():
            yield Template(f"stream:{name}", commands, "stream")


def _add(first: int, count: int, *more: str | bytes | int) -> list[Command]:
    """Entries ``first``-1 and on with the same two fields, which the server then stores once per node."""
    return [("XADD", f"{i}-1", "n", i, "text", b"entry %d" % i, *more) for i in range(first, first + count)]


def _entries() -> dict[str, list[Command]]:
    return {
        "plain": _add(1, 5),
        "many nodes": _add(1, 350),
        "deleted entries": [*_add(1, 20), ("XDEL", "1-1", "7-1", "8-1", "20-1")],
        "deleted across nodes": [*_add(1, 350), ("XDEL", *(f"{i}-1" for i in range(50, 300, 2)))],
        "trimmed": [*_add(1, 350), ("XTRIM", "MAXLEN", "=", 5)],
        "emptied by deletion": [*_add(1, 3), ("XDEL", "1-1", "2-1", "3-1")],
        "emptied by trimming": [*_add(1, 3), ("XTRIM", "MAXLEN", 0)],
        "id set ahead": [*_add(1, 3), ("XSETID", "77-5")],
        "id edges": [
            ("XADD", "0-1", "a", "first"),
            ("XADD", f"0-{2**64 - 1}", "b", ""),
            ("XADD", ID_MAX, "c", "last"),
        ],
        "sequence numbers": [("XADD", f"5-{i}", "f", i) for i in range(30)],
        "differing fields": [
            ("XADD", "1-1", "a", 1, "b", 2),
            ("XADD", "1-2", "a", 1),
            ("XADD", "1-3", "b", 2, "a", 1),
            ("XADD", "1-4", "a", 3, "b", 4),
            ("XADD", "1-5", "", ""),
        ],
        "repeated fields": [("XADD", "1-1", "a", 1, "a", 2, "a", 1), ("XADD", "1-2", "a", 2, "a", 3, "a", 4)],
        "integers": [("XADD", f"{i + 1}-0", "n", number, number, "v") for i, number in enumerate(INTEGERS)],
        "lookalikes": [("XADD", f"{i + 1}-0", text, text) for i, text in enumerate(LOOKALIKES)],
        "lengths": [("XADD", f"{i + 1}-0", noise(n), noise(n)) for i, n in enumerate(LENGTHS)],
        "binary": [("XADD", "1-0", BINARY, BINARY), ("XADD", "2-0", b"\r\n", b"\x00")],
    }


def _groups() -> dict[str, list[Command]]:
    create = ("XGROUP", "CREATE")
    return {
        "group at the start": [*_add(1, 5), (*create, "g", 0)],
        "group at the end": [*_add(1, 5), (*create, "g", "$")],
        "group ahead": [*_add(1, 5), (*create, "g", "99-9")],
        "group in a gap": [*_add(1, 5), ("XDEL", "3-1"), (*create, "g", "3-1")],
        "group of odd name": [*_add(1, 2), (*create, b"\x00\r\n\xff", 0), (*create, "", 0)],
        "empty with groups": [(*create, "g", "$", "MKSTREAM"), (*create, "h", "5-5")],
        "emptied with groups": [*_add(1, 3), (*create, "g", "2-1"), ("XDEL", "1-1", "2-1", "3-1")],
        "consumers without pending": [
            *_add(1, 3),
            (*create, "g", 0),
            ("XGROUP", "CREATECONSUMER", "g", "idle"),
            ("XGROUP", "CREATECONSUMER", "g", b"\xfe\x00"),
            ("XGROUP", "CREATECONSUMER", "g", ""),
        ],
        "many groups": [*_add(1, 4), *((*create, f"group {i}", f"{i % 6}-1") for i in range(40))],
    }


def _claim(group: str, consumer: str, entry: int, deliveries: int) -> Command:
    """Makes entry ``entry``-1 pending, with a time and a count of its own."""
    at_ms = DELIVERED_MS + entry * 1_000
    return (
        "XCLAIM",
        group,
        consumer,
        0,
        f"{entry}-1",
        "TIME",
        at_ms,
        "RETRYCOUNT",
        deliveries,
        "FORCE",
        "JUSTID",
    )


def _read(group: str, consumer: str, count: int) -> Command:
    """XREADGROUP has its key near the end, so it is written as a script's."""
    script = "return redis.call('XREADGROUP','GROUP',ARGV[1],ARGV[2],'COUNT',ARGV[3],'STREAMS',KEYS[1],'>')"
    return ("EVAL", script, 1, KEY, group, consumer, count)


def _pending() -> dict[str, list[Command]]:
    group: Command = ("XGROUP", "CREATE", "g", 0)
    return {
        "pending": [*_add(1, 5), group, _read("g", "alice", 3), ("XACK", "g", "2-1")],
        "pending with counts": [
            *_add(1, 6),
            group,
            *(_claim("g", f"c{i % 2}", i, i * i) for i in range(1, 6)),
        ],
        "pending of several groups": [
            *_add(1, 6),
            group,
            ("XGROUP", "CREATE", "h", "2-1"),
            _read("g", "alice", 4),
            _read("g", "bob", 1),
            _read("h", "alice", 10),
            _claim("g", "carol", 2, 7),
        ],
        "pending of deleted entries": [
            *_add(1, 6),
            group,
            *(_claim("g", "alice", i, i) for i in range(1, 6)),
            ("XDEL", "1-1", "3-1"),
        ],
        "all pending deleted": [*_add(1, 3), group, _read("g", "alice", 3), ("XTRIM", "MAXLEN", 0)],
        "much pending": [
            *_add(1, 320),
            group,
            *(_claim("g", f"c{i % 7}", i, i % 5 + 1) for i in range(1, 301)),
        ],
    }


def _since_7() -> dict[str, list[Command]]:
    return {
        "counters set": [*_add(1, 5), ("XSETID", "90-9", "ENTRIESADDED", 12345, "MAXDELETEDID", "88-8")],
        "counters set, empty": [
            ("XGROUP", "CREATE", "g", 0, "MKSTREAM"),
            ("XSETID", "90-9", "ENTRIESADDED", 7, "MAXDELETEDID", "89-0"),
        ],
        "entries read": [
            *_add(1, 5),
            ("XGROUP", "CREATE", "known", "3-1", "ENTRIESREAD", 3),
            ("XGROUP", "CREATE", "unknown", "3-1"),
            ("XGROUP", "CREATE", "none", 0, "ENTRIESREAD", 0),
        ],
    }
