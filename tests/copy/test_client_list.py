"""CLIENT LIST read and judged, without servers."""

from __future__ import annotations

import pytest

from keyferry.copy.client_list import BLOCKING, ClientLine, parse_client_list

OLD = b"id=8 addr=127.0.0.1:40712 laddr=127.0.0.1:24308 fd=11 name=shop age=7 idle=0 flags=xb db=0 sub=0 psub=0 multi=1 cmd=exec user=app redir=-1"
NEW = b"id=10 addr=/tmp/s:0 name= age=0 flags=N db=0 multi=-1 cmd=client|no-touch user=default resp=2 lib-name= lib-ver="
MANAGED = b"id=3 addr=10.0.0.1:5 cmd=NULL"


def test_lines_of_each_make() -> None:
    assert list(parse_client_list(b"\n".join((OLD, NEW, MANAGED, b"", b"what else")))) == [
        ClientLine(8, "127.0.0.1:40712", "shop", "app", "EXEC", "xb", 7, 1),
        ClientLine(10, "/tmp/s:0", "", "default", "CLIENT NO-TOUCH", "N", 0, -1),
        ClientLine(3, "10.0.0.1:5", flags=""),
    ]


@pytest.mark.parametrize(
    ("cmd", "writes"),
    [
        ("SET", True),
        ("GET", False),
        ("EVAL", True),
        ("EVAL_RO", False),
        ("FCALL", True),
        ("XGROUP", True),
        ("XGROUP CREATE", True),
        ("XINFO", False),
        ("CLUSTER", False),
        ("CLUSTER SLOTS", False),
        ("CONFIG SET", False),
        ("NULL", True),
        ("VENDOR.PUT", True),
        ("SUBSCRIBE", False),
    ],
)
def test_who_may_write(cmd: str, writes: bool) -> None:
    assert ClientLine(1, "a:1", cmd=cmd).may_write is writes


@pytest.mark.parametrize(
    ("cmd", "reads"), [("GET", True), ("XREAD", True), ("PING", False), ("INFO", False), ("SET", False)]
)
def test_who_has_read(cmd: str, reads: bool) -> None:
    assert ClientLine(1, "a:1", cmd=cmd).reads_keys is reads


def test_an_open_transaction_may_write() -> None:
    assert ClientLine(1, "a:1", cmd="GET", queued=0).may_write


@pytest.mark.parametrize("cmd", ["BLPOP", "BLMOVE", "BZMPOP", "XREADGROUP"])
def test_who_waits_to_write(cmd: str) -> None:
    assert ClientLine(1, "a:1", cmd=cmd, flags="b").waits_to_write
    assert not ClientLine(1, "a:1", cmd=cmd).waits_to_write
    assert not ClientLine(1, "a:1", cmd="XREAD", flags="b").waits_to_write


def test_links_between_servers() -> None:
    assert [ClientLine(1, "a:1", flags=flags).replicates for flags in ("N", "S", "M", "xb")] == [
        False,
        True,
        True,
        False,
    ]


def test_only_those_that_matter() -> None:
    text = b"\n".join(
        b"id=%d cmd=%b user=app" % (i, cmd) for i, cmd in enumerate((b"blpop", b"get", b"bzmpop", b"lpop"))
    )
    assert [line.id for line in parse_client_list(text + b"\nid=9 cmd=blpop", BLOCKING)] == [0, 2, 9]
