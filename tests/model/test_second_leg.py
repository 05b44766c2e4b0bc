"""Every write, proved on two real servers: see second_legs."""

from __future__ import annotations

from typing import Any

import pytest
from command_lines import WRITES, lines
from second_legs import Line, Raw, known, other_state, prove

from keyferry.model.command_extras import EXTRAS
from keyferry.model.command_treatments import Treatment
from keyferry.model.commands import all_commands, is_container, look_up
from keyferry.model.rewriting import RULES
from keyferry.testing.binaries import server_names
from keyferry.testing.servers import Server

UNTESTED = {line.split()[0] for line in EXTRAS.splitlines()} - {"MSETEX"}
"""Modules, and what is too new to be at hand."""


def treated(line: Line) -> Treatment:
    info = look_up(tuple(line))
    assert info is not None, line
    return info.treatment


REWRITTEN = [line for line in lines(WRITES) if treated(line) is Treatment.REWRITE]
OVERWRITING = [
    line
    for line in lines(WRITES)
    if line[0]
    in {"SET", "SETEX", "PSETEX", "SETNX", "GETSET", "MSETNX", "MSETEX", "GETDEL", "DELIFEQ", "RESTORE"}
    and "KEEPTTL" not in line
]
"""Their second legs need nothing of what the mirror has."""


def following(name: str) -> str:
    names = server_names()
    return names[(names.index(name) + 1) % len(names)]


def test_second_legs_make_the_mirror_equal(server: Server, flushed: Any) -> None:
    """Also: each rewritten command of this server has succeeded in some case, so that this is about it."""
    able = prove(server, flushed(server.binary.name, 1), lines(WRITES))
    with Raw(server, 2, False) as connection:
        rules = RULES.keys() & known(connection)
    succeeded = {case.command[0] for case in able if case.second is not None}
    sent = {case.command[0] for case in able if case.second is not None and case.second.commands}
    assert rules - succeeded == set()
    assert rules - sent == {"XREADGROUP", "XCLAIM", "XAUTOCLAIM"}


def test_the_same_on_a_mirror_of_another_version(server: Server, flushed: Any) -> None:
    prove(server, flushed(following(server.binary.name)), REWRITTEN)


@pytest.mark.parametrize(("protocol", "decode"), [(3, False), (3, True)])
def test_the_same_with_other_shapes_of_replies(
    server: Server, flushed: Any, protocol: int, decode: bool
) -> None:
    prove(server, flushed(server.binary.name, 1), REWRITTEN, protocol, decode)


def test_what_overwrites_does_not_depend_on_what_the_mirror_had(server: Server, flushed: Any) -> None:
    able = prove(server, flushed(server.binary.name, 1), OVERWRITING, disturb=other_state)
    assert sum(bool(case.second and case.second.commands) for case in able) > 200


def test_every_write_is_tried() -> None:
    tried = {look_up(tuple(line)).name for line in lines(WRITES)}  # type: ignore[union-attr]
    for info in all_commands():
        if info.treatment in {Treatment.MIRROR, Treatment.REWRITE} and not is_container(info.name):
            assert info.name in tried | UNTESTED | {"VADD", "VREM", "VSETATTR"}, info.name
