"""The table of commands says what the servers say: flags, and which arguments are keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from command_lines import OTHERS, WRITES, lines
from dev.generate_commands import Rows, server_rows
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.command_extras import EXTRAS
from keyferry.model.command_treatments import GROUPS, Treatment
from keyferry.model.commands import (
    CommandInfo,
    all_commands,
    is_container,
    keys_of,
    look_up,
    spread,
    written_keys_of,
)
from keyferry.testing.servers import Server
from keyferry.wire.resp import ReplyError

REGENERATE = "run: python -m dev.generate_commands"
LINES = lines(WRITES) + lines(OTHERS)
SAFE_SIDE = {"XREADGROUP", "BITFIELD"}
"""The keys of the first are flagged as read, although the groups in them change; of the second, when it only GETs."""


def found(*args: Any) -> CommandInfo:
    info = look_up(args)
    assert info is not None, args
    return info


def test_every_command_of_the_server_is_in_the_table(server: Server) -> None:
    with server.session() as session:
        rows = server_rows(session)
    assert len(rows) > 200
    for name, (flags, places) in rows.items():
        args = tuple(name.split("|"))
        if len(args) == 1 and is_container(name):
            continue
        info = found(*args)
        assert info.name == " ".join(args), REGENERATE
        assert info.writes == ("w" in flags), f"{name}: {REGENERATE}"
        assert info.blocking or "b" not in flags, f"{name}: {REGENERATE}"
        assert not (info.treatment is Treatment.READ and info.writes), name
        assert_same_places(info, args, places)


def assert_same_places(info: CommandInfo, args: tuple[str, ...], places: str) -> None:
    """The server's word on the keys against the table's, on arguments that are all different."""
    if not places or places.endswith("?"):
        return
    assert info.keys is not None
    told = places.replace("!", "").split()
    if all(place[0].isdigit() for place in told):
        line = (*args, *(f"argument {index}" for index in range(len(args), 8)))
        expected: list[str] = []
        for place in told:
            first, *rest = (int(number) for number in place.split(":"))
            last = rest[0] if rest else first
            expected += line[
                first : (last + 1 or None) if last < 0 else last + 1 : rest[1] if rest[1:] else 1
            ]
        assert keys_of(info, line) == tuple(expected), f"{info.name}: {REGENERATE}"


def test_blocking_flags_agree(server: Server) -> None:
    """Servers from 7.0 on tell which commands block; no other one of theirs does, by our table."""
    with server.session() as session:
        rows: Rows = server_rows(session)
    told = {name.replace("|", " ") for name, (flags, _) in rows.items() if "b" in flags}
    if not told:
        assert server.binary.version < (7, 0, 0)
        return
    ours = {info.name for info in all_commands() if info.blocking}
    # 7.0 does not flag WAIT, which waits there as well.
    assert told | {"WAIT"} == ours & {name.replace("|", " ") for name in rows}, REGENERATE


def test_keys_are_those_that_the_server_finds(server: Server) -> None:
    checked = 0
    with server.session() as session:
        for line in LINES:
            reply = session.call("COMMAND", "GETKEYS", *line)
            if isinstance(reply, ReplyError):
                known = ["Invalid command", "no key arguments"]
                if server.binary.version < (7, 0, 0):
                    known.append("Invalid")  # options that it does not have yet, scripts without keys
                assert any(said in reply.message for said in known), (line, reply)
                if "no key arguments" not in reply.message:
                    continue
                reply = []
            info = found(*line)
            assert isinstance(reply, list)
            expected = {key.decode() for key in reply if isinstance(key, bytes)}
            keys = set(keys_of(info, tuple(line)))
            assert keys == expected or (two_destinations(line) and keys < expected), line
            checked += 1
    assert checked > 250


def test_written_keys_are_those_that_the_server_flags(server: Server) -> None:
    with server.session() as session:
        if isinstance(session.call("COMMAND", "GETKEYSANDFLAGS", "GET", "K"), ReplyError):
            assert server.binary.version < (7, 0, 0)
            return
        for line in LINES:
            reply = session.call("COMMAND", "GETKEYSANDFLAGS", *line)
            if isinstance(reply, ReplyError):
                continue
            info = found(*line)
            flagged = set() if info.treatment is Treatment.READ else set(flagged_as_written(reply))
            if info.name in SAFE_SIDE:
                flagged = set(keys_of(info, tuple(line)))
            keys = set(written_keys_of(info, tuple(line)))
            assert keys == flagged or (two_destinations(line) and keys < flagged), line


def flagged_as_written(reply: Any) -> Iterator[str]:
    """Of the reply to COMMAND GETKEYSANDFLAGS: keys, each with its flags."""
    for key, flags in reply:
        if {b"RW", b"OW", b"RM"} & set(flags):
            yield key.decode()


def two_destinations(line: list[str]) -> bool:
    """Redis from 7.0 on names both keys of STORE and STOREDIST, and writes to the last one."""
    return "STORE" in line and "STOREDIST" in line


def test_the_lines_know_every_command_that_names_keys() -> None:
    module = {line.split()[0] for line in EXTRAS.splitlines()}
    written = {found(*line).name for line in LINES}
    missing = {
        info.name
        for info in all_commands()
        if keys_of(info, (*info.name.split(), *"12345678")) and info.name not in module | written
    }
    assert missing == {"PFDEBUG"}


@pytest.mark.parametrize(
    "args",
    [
        ("XGROUP CREATE", "K", "g", "$"),
        ("XGROUP", "CREATE", "K", "g", "$"),
        ("xgroup", "create", "K", "g", "$"),
        ("Xgroup Create", "K", "g", "$"),
        (b"XGROUP", b"Create", "K", "g", "$"),
        (b"xgroup create", "K", "g", "$"),
        (memoryview(b"XGROUP"), bytearray(b"create"), "K"),
    ],
)
def test_any_spelling(args: tuple[Any, ...]) -> None:
    info = found(*args)
    assert info.name == "XGROUP CREATE"
    assert keys_of(info, args) == ("K",)
    assert written_keys_of(info, args) == ("K",)


@pytest.mark.parametrize(
    "args", [(), ("NOPE", "K"), ("SET K x",), ("XGROUP", "NOPE"), ("XGROUP",), (None,), ("",), ([],)]
)
def test_unknown(args: tuple[Any, ...]) -> None:
    assert look_up(args) is None


def test_unknown_subcommands_of_what_is_only_local() -> None:
    assert found("CLIENT", "NOPE").treatment is Treatment.LOCAL
    assert look_up(("SCRIPT", "NOPE")) is None


def test_spread() -> None:
    assert spread(("SET K x", "EX", 1)) == ("SET", "K", "x", "EX", 1)
    assert spread((b"GET", "K")) == (b"GET", "K")
    assert spread(()) == ()


def test_keys_come_back_as_they_were_passed() -> None:
    key = memoryview(b"K")
    assert keys_of(found("ZUNIONSTORE"), ("ZUNIONSTORE", key, b"2", "a", 7, "x"))[0] is key
    assert keys_of(found("ZUNIONSTORE"), ("ZUNIONSTORE", key, b"2", "a", 7, "x"))[1:] == ("a", 7)


def test_every_decision_is_about_a_command_and_made_once() -> None:
    names = [name for group in GROUPS for name in group.commands]
    assert len(names) == len(set(names))
    assert set(names) <= {info.name for info in all_commands()}


def test_no_write_goes_to_one_side_alone() -> None:
    for info in all_commands():
        if info.writes:
            assert info.treatment in {
                Treatment.MIRROR,
                Treatment.REWRITE,
                Treatment.REPORT,
                Treatment.BOTH,
            }, info.name
        if written_keys_of(info, (*info.name.split(), *"12345678")):
            assert info.treatment not in {Treatment.READ, Treatment.LOCAL, Treatment.SESSION}, info.name


@given(
    st.sampled_from([info.name for info in all_commands()]),
    st.lists(
        st.one_of(st.text(max_size=8), st.binary(max_size=8), st.integers(), st.floats(), st.none()),
        max_size=8,
    ),
)
def test_nothing_raises_on_arguments_that_a_server_would_refuse(name: str, rest: list[Any]) -> None:
    for args in ((*name.split(), *rest), (name, *rest)):
        info = look_up(args)
        if info is not None:
            assert len(written_keys_of(info, args)) <= len(keys_of(info, args)) <= len(args)
