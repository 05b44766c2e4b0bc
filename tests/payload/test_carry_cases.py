"""Every case on every ordered pair of servers, in pieces and as a decoded value: what arrives is what left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from looking import expiry_ms, identity, looked, without_counters, without_field_expiry, without_negative_zero

from keyferry.model.identity import ServerIdentity
from keyferry.payload.carry import Carried, Carry, Destination, carry_in_pieces, carry_value
from keyferry.payload.reader import decode
from keyferry.payload.write_commands import Abilities
from keyferry.testing.cases import Case, build, cases_for
from keyferry.testing.servers import Server
from keyferry.transfer.drive import drive
from keyferry.wire.session import Session

View = Callable[[object], object]
Way = Callable[[Case, Session, ServerIdentity, ServerIdentity], Carry]


def destination(case: Case, target: ServerIdentity, *, drop_field_expiry: bool = True) -> Destination:
    return Destination(case.key, case.expires_at_ms, True, target, drop_field_expiry)


def in_pieces(case: Case, source: Session, server: ServerIdentity, target: ServerIdentity) -> Carry:
    return carry_in_pieces(destination(case, target), server)


def whole(case: Case, source: Session, server: ServerIdentity, target: ServerIdentity) -> Carry:
    payload = source.call("DUMP", case.key)
    assert isinstance(payload, bytes)
    return carry_value(decode(payload, server.family), destination(case, target))


@pytest.mark.parametrize("way", [in_pieces, whole])
def test_every_case_arrives(server_pair: tuple[Server, Server], way: Way) -> None:
    source_server, target_server = server_pair
    source_identity, target_identity = identity(source_server), identity(target_server)
    cases = cases_for(source_identity.version, source_identity.family)
    with source_server.session() as source, target_server.session(side="target") as target:
        build(source, cases)
        for case in cases:
            target.call("SET", case.key, "what was there before")
            outcome = drive(way(case, source, source_identity, target_identity), source, target)
            assert isinstance(outcome, Carried), (case.name, outcome)
            expected, found = (
                looked(source, source_identity, case.key),
                looked(target, target_identity, case.key),
            )
            for view in views(case, source_identity, target_identity):
                expected, found = view(expected), view(found)
            assert found == expected, case.name
            assert expiry_ms(target, case.key) == expiry_ms(source, case.key), case.name
        assert target.call("DBSIZE") == len(cases)


def views(case: Case, source: ServerIdentity, target: ServerIdentity) -> Iterator[View]:
    """What must not be compared between these two."""
    if case.field_expiry and not Abilities.of(target).field_expiry:
        yield without_field_expiry
    if not (Abilities.of(source).stream_counters and Abilities.of(target).stream_counters):
        yield without_counters
    if case.type == "zset":
        yield without_negative_zero
