"""The cases are what they say they are, on every server at hand."""

from __future__ import annotations

from keyferry.testing.cases import Case, build, cases_for
from keyferry.testing.servers import Server


def test_names_and_keys_are_unique(server: Server) -> None:
    cases = _cases(server)
    assert len({case.name for case in cases}) == len({case.key for case in cases}) == len(cases)


def test_every_case_reaches_its_type_encoding_and_expiry(server: Server) -> None:
    cases = _cases(server)
    with server.session() as session:
        build(session, cases)
        for case in cases:
            kind, encoding, left_ms = session.pipeline(
                [("TYPE", case.key), ("OBJECT", "ENCODING", case.key), ("PTTL", case.key)]
            )
            assert kind == case.type.encode(), case.name
            assert not case.encoding or encoding == case.encoding.encode(), case.name
            assert (left_ms == -1) == (case.expires_at_ms is None), case.name
        assert session.call("DBSIZE") == len(cases)


def test_a_list_of_plain_nodes_has_some(server: Server) -> None:
    with server.session() as session:
        for case in _cases(server):
            if case.name == "list:plain nodes":
                build(session, [case])
                payload = session.call("DUMP", case.key)
                assert isinstance(payload, bytes)
                # Quicklist of listpacks: type byte, number of nodes, then per node 1 (plain) or 2 (listpack).
                assert payload[0] == 18
                assert payload[2] == 1


def test_both_forms_of_hyperloglog_are_there(server: Server) -> None:
    with server.session() as session:
        build(session, [case for case in _cases(server) if "hyperloglog" in case.name])
        # The fifth byte of a HyperLogLog is 0 when dense, 1 when sparse.
        assert session.call("GETRANGE", "case:string:hyperloglog dense", 4, 4) == b"\x00"
        assert session.call("GETRANGE", "case:string:hyperloglog sparse", 4, 4) == b"\x01"


def test_pending_entries_have_the_counts_that_were_asked_for(server: Server) -> None:
    with server.session() as session:
        build(session, [case for case in _cases(server) if case.name == "stream:pending of deleted entries"])
        key = "case:stream:pending of deleted entries"
        pending = session.call("XPENDING", key, "g", "-", "+", 100)
        entries = session.call("XRANGE", key, "-", "+")
    assert isinstance(pending, list)
    assert isinstance(entries, list)
    assert [entry[3] for entry in pending if isinstance(entry, list)] == [1, 2, 3, 4, 5]
    assert [entry[0] for entry in entries if isinstance(entry, list)] == [b"2-1", b"4-1", b"5-1", b"6-1"]


def _cases(server: Server) -> list[Case]:
    return cases_for(server.binary.version, server.binary.family)
