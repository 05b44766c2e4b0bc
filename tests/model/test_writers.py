"""A writer's entry: what is written down is read again, and what is no entry is an error."""

from __future__ import annotations

import json

import pytest

from keyferry.model.phases import Phase, Side
from keyferry.model.record import RecordUnreadable
from keyferry.model.writers import (
    NAMES_MAX,
    TEXT_CHARS_MAX,
    WriterEntry,
    WriterFacts,
    decode_entry,
    encode_entry,
)

FACTS = WriterFacts("web1", 7, "gunicorn", "keyferry 0.1")
ENTRY = WriterEntry(
    FACTS, 10_000, 3, Phase.DUAL, 4, {Side.TARGET: ("9", "10")}, 1, 2, "q1", "the target is away", ("shop",)
)


def test_what_is_written_is_read() -> None:
    assert decode_entry("a", encode_entry(ENTRY)) == ENTRY
    assert decode_entry("a", encode_entry(WriterEntry(FACTS, 1))) == WriterEntry(FACTS, 1)


def test_text_of_others_moves_no_cursor_and_begins_no_line() -> None:
    facts = WriterFacts("web\x1b[2J", 7, "shop\n12:00:00  All is well.", "a\r\N{RIGHT-TO-LEFT OVERRIDE}b")
    found = decode_entry("a", encode_entry(WriterEntry(facts, 1, note="x" * 10_000 + "\x07")))
    assert found.facts == WriterFacts("web\ufffd[2J", 7, "shop\ufffd12:00:00  All is well.", "a\ufffd\ufffdb")
    assert found.note == "x" * TEXT_CHARS_MAX


@pytest.mark.parametrize("field", ["pid", "epoch", "renewals", "lease_ms", "since_ms", "seen_ms"])
def test_numbers_that_no_clock_and_no_count_comes_to(field: str) -> None:
    data = json.loads(encode_entry(ENTRY)) | {field: 10**400}
    with pytest.raises(RecordUnreadable, match=field):
        decode_entry("a", json.dumps(data).encode())


def test_an_older_writer_names_no_connections() -> None:
    data = json.loads(encode_entry(ENTRY))
    del data["names"]
    assert decode_entry("a", json.dumps(data).encode()).names == ()


def test_names_are_bounded() -> None:
    many = WriterEntry(FACTS, 1, names=tuple(map(str, range(NAMES_MAX + 5))))
    assert decode_entry("a", encode_entry(many)).names == many.names[:NAMES_MAX]


@pytest.mark.parametrize("names", ["shop", [1], {"shop": 1}, None])
def test_names_that_are_none(names: object) -> None:
    data = json.loads(encode_entry(ENTRY)) | {"names": names}
    with pytest.raises(RecordUnreadable, match="names"):
        decode_entry("a", json.dumps(data).encode())
