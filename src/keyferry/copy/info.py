"""Reads what INFO says. Pure.

Source: https://redis.io/docs/latest/commands/info/
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Info = dict[str, dict[str, str]]
"""Section (lower case) -> field -> text."""


@dataclass(frozen=True, slots=True)
class Keyspace:
    """One database in use: its keys, and how many of them expire."""

    keys: int
    expires: int


def parse_info(text: bytes) -> Info:
    """INFO's reply by section and field. Of a field that a section repeats, the last line counts.

    Args:
        text: ``# Section``, then lines of ``field:text``; line ends CR LF or LF.
    """
    sections: Info = {}
    fields = sections.setdefault("", {})
    for line in text.decode("utf-8", "backslashreplace").splitlines():
        if line.startswith("#"):
            fields = sections.setdefault(line[1:].strip().lower(), {})
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value
    if not sections[""]:
        del sections[""]
    return sections


def info_text(info: Info, section: str, name: str, default: str = "") -> str:
    return info.get(section, {}).get(name, default)


def info_number(info: Info, section: str, name: str) -> int | None:
    """The field as a whole number; None where it is missing or no number."""
    text = info_text(info, section, name)
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else None


def keyspace(info: Info) -> dict[int, Keyspace]:
    """The databases that hold keys, from lines such as ``db0:keys=3,expires=1,avg_ttl=0``."""
    found: dict[int, Keyspace] = {}
    for name, text in info.get("keyspace", {}).items():
        if re.fullmatch(r"db[0-9]+", name):
            numbers = _numbers(text)
            found[int(name[2:])] = Keyspace(numbers.get("keys", 0), numbers.get("expires", 0))
    return found


def command_calls(info: Info) -> dict[str, int]:
    """Calls by command (``config|get`` for subcommands, >= 7.0) since the counters began."""
    calls = {
        name.removeprefix("cmdstat_").lower(): _numbers(text).get("calls", 0)
        for name, text in info.get("commandstats", {}).items()
        if name.startswith("cmdstat_")
    }
    return {name: count for name, count in calls.items() if count}


def module_names(text: bytes) -> frozenset[str]:
    """Modules by INFO's lines ``module:name=...,ver=...`` (>= 6.0), for servers that forbid MODULE LIST."""
    return frozenset(
        name.decode("utf-8", "backslashreplace")
        for name in re.findall(rb"^module:name=([^,\r\n]+)", text, re.MULTILINE)
    )


def data_bytes(info: Info) -> int | None:
    """Memory that the keys take: all of it without what the server needs for itself, its clients and its log.

    ``used_memory_dataset`` alone leaves out the main hash table, which is half of the memory of small values.
    """
    used = info_number(info, "memory", "used_memory")
    if used is None:
        return None
    own = (
        "used_memory_startup",
        "mem_clients_normal",
        "mem_clients_slaves",
        "mem_replication_backlog",
        "mem_aof_buffer",
    )
    return max(0, used - sum(info_number(info, "memory", name) or 0 for name in own))


def _numbers(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"([a-z_]+)=([0-9]+)(?![0-9.])", text)}
