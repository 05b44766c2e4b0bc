"""A log's lines: one per event whatever the texts hold, the same fields in both forms, no credentials."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.app.log_lines import EVENT, FIELDS, TEXT_CHARS_MAX, LineFormatter, json_line, logfmt, timestamp

PAIR = re.compile(r'(?P<name>[a-z_]+)=(?P<value>"(?:[^"\\]|\\.)*"|[^" ]*)(?: |$)')


def fields_of(line: str) -> dict[str, str]:
    """What a reader of logfmt finds."""
    found, at = {}, 0
    while at < len(line):
        pair = PAIR.match(line, at)
        assert pair is not None, line[at:]
        value = pair["value"]
        found[pair["name"]] = json.loads(value) if value.startswith('"') else value
        at = pair.end()
    return found


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("following", "msg=following"),
        ("127.0.0.1:6379", "msg=127.0.0.1:6379"),
        ("", 'msg=""'),
        ("two words", 'msg="two words"'),
        ('say "yes"\\', 'msg="say \\"yes\\"\\\\"'),
        ("a\nb\r\x1b[31m\x00", 'msg="a\\nb\\r\\u001b[31m\\u0000"'),
        ("\u202egnp.exe\u2028", 'msg="\\u202egnp.exe\\u2028"'),
        ("\udcff", 'msg="\\udcff"'),
        ("a=b", 'msg="a=b"'),
        (True, "msg=true"),
        (12, "msg=12"),
        (0.12345, "msg=0.123"),
        (None, ""),
        ("redis://ferry:hunter2@new:6379 is away", 'msg="redis://ferry:***@new:6379 is away"'),
    ],
)
def test_values(value: str | float | bool | None, written: str) -> None:
    assert logfmt({"msg": value}) == written


@given(st.text(alphabet=st.characters(blacklist_categories=()), max_size=200))
def test_any_text_is_one_line_of_printable_characters_and_comes_back(text: str) -> None:
    line = logfmt({"event": "said", "msg": text})
    assert line.splitlines() == [line]
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    line.encode()
    if "://" not in text:
        assert fields_of(line) == {"event": "said", "msg": text}
        assert json.loads(json_line({"event": "said", "msg": text}))["msg"] == text
    assert json_line({"msg": text}).isascii()


def test_a_value_is_bounded() -> None:
    assert len(fields_of(logfmt({"msg": "ä" * 10_000}))["msg"]) == TEXT_CHARS_MAX + 3


@pytest.mark.parametrize("at_s", [0.0, 1795459293.1234, 1795459293.9996])
def test_times_are_utc_with_milliseconds(at_s: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp(at_s))
    assert timestamp(1795459293.9996) == "2026-11-23T18:41:34.000Z"


def test_both_forms_hold_the_same_fields_in_the_same_order() -> None:
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": "It is late.", "created": 1795459293.123})
    setattr(record, EVENT, "keys_failed")
    setattr(record, FIELDS, {"failed": 3, "hint": None, "lag_s": 0.25, "ready": False})
    plain, as_json = (
        LineFormatter(as_json=form, common={"name": "shop"}).format(record) for form in (False, True)
    )
    assert plain == (
        "ts=2026-11-23T18:41:33.123Z level=warning event=keys_failed name=shop failed=3 lag_s=0.250 ready=false "
        'msg="It is late."'
    )
    assert list(json.loads(as_json)) == list(fields_of(plain))
    assert json.loads(as_json)["failed"] == 3


def test_every_event_is_documented() -> None:
    """By the words of the modules that make them."""
    root = Path(__file__).parents[2]
    modules = [*(root / "src/keyferry/app").glob("log*.py"), root / "src/keyferry/app/checking.py"]
    text = "\n".join(module.read_text() for module in modules)
    made = set(re.findall(r'(?:\.say|LogEvent|_with)\(\s*(?:record, )?"([a-z_]+)"', text))
    table = (root / "docs/logging.md").read_text().split("## Events")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) == made
