"""The data sets hold what they promise, the same every time."""

from __future__ import annotations

from collections import Counter

from keyferry.testing.cases import ODD_NAMES
from keyferry.testing.dataset import EXPIRY_MS_MIN, fill, fill_mix, fill_strings
from keyferry.testing.servers import Server
from keyferry.wire.session import Session


def test_fill_writes_exactly_what_it_reports(server: Server) -> None:
    progress: list[tuple[int, int]] = []
    with server.session() as session:
        filled = fill(session, 3_000, seed=7, on_progress=lambda done, total: progress.append((done, total)))
        keys = _keys(session)
        types = Counter(
            str(kind, "ascii")
            for kind in session.pipeline([("TYPE", key) for key in keys])
            if isinstance(kind, bytes)
        )
        lives = session.pipeline([("PTTL", key) for key in keys])
    assert len(keys) == filled.keys == 3_000
    assert types == filled.by_type
    assert set(ODD_NAMES.values()) <= set(keys)
    expiring = [life for life in lives if isinstance(life, int) and life != -1]
    assert len(expiring) == filled.expiring
    assert min(expiring) > EXPIRY_MS_MIN - 60_000
    assert 0.2 < filled.expiring / filled.keys < 0.4
    assert progress[-1] == (3_000, 3_000)


def test_the_same_seed_makes_the_same_data(server_pair: tuple[Server, Server]) -> None:
    first, second = server_pair
    with first.session() as one, second.session() as other:
        fill(one, 300, seed=3)
        fill(other, 300, seed=3)
        keys = sorted(_keys(one))
        assert keys == sorted(_keys(other))
        strings = [key for key in keys if key.startswith((b"session:", b"cache:"))]
        assert strings
        assert one.call("MGET", *strings) == other.call("MGET", *strings)


def test_short_lived_keys_are_there_when_asked_for(server: Server) -> None:
    with server.session() as session:
        fill(session, 1_000, short_lived=True)
        lives = session.pipeline([("PTTL", key) for key in _keys(session)])
    short = [life for life in lives if isinstance(life, int) and 0 < life <= 20_000]
    assert short


def test_strings_and_mix_have_their_sizes_and_types(server: Server) -> None:
    with server.session() as session:
        filled = fill_strings(session, 1_500, value_bytes=64)
        assert session.call("DBSIZE") == 1_500
        assert 0.2 < filled.expiring / filled.keys < 0.4
        lengths = session.pipeline([("STRLEN", key) for key in _keys(session)])
        assert set(map(str, lengths)) == {"64"}
        session.call("FLUSHALL")
        mixed = fill_mix(session, 600)
        assert session.call("DBSIZE") == 600
        assert set(mixed.by_type) == {"string", "list", "set", "zset", "hash", "stream"}


def _keys(session: Session) -> list[bytes]:
    keys = session.call("KEYS", "*")
    assert isinstance(keys, list)
    return [key for key in keys if isinstance(key, bytes)]
