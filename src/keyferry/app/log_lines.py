"""One line per event, as key=value (logfmt) or as JSON, whatever the texts in it hold.

A log is read by programs as much as by people: a line end or a control character in a server's error must neither
make a second line nor colour a terminal. So everything is escaped here, and every line is bounded.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from keyferry.app.hide import redact

TEXT_CHARS_MAX = 2000
"""Of one value. A sentence that names every writer may be longer; the status holds all of it."""
EVENT = "keyferry_event"
FIELDS = "keyferry_fields"
"""Attributes of a log record."""

Value: TypeAlias = str | int | float | bool | None
Fields: TypeAlias = Mapping[str, Value]

_BARE = re.compile(r"[A-Za-z0-9_.:/+@%#,*-]+")
_ESCAPED = re.compile(
    r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]'
)
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_DECIMALS = 3


def logfmt(fields: Fields) -> str:
    """``key=value`` pairs; a value with anything but plain characters is quoted, with JSON's escapes. None is left out."""
    pairs = ((name, _shown(value)) for name, value in fields.items() if value is not None)
    return " ".join(f"{name}={text if _BARE.fullmatch(text) else _quoted(text)}" for name, text in pairs)


def json_line(fields: Fields) -> str:
    """The same fields as a JSON object of ASCII characters."""
    return json.dumps({name: _plain(value) for name, value in fields.items() if value is not None})


def timestamp(at_s: float) -> str:
    """UTC with milliseconds, as RFC 3339 writes it: ``2026-11-23T18:41:33.123Z``.

    Args:
        at_s: Since 1970.
    """
    whole, thousandths = divmod(round(at_s * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03d}Z"


class LineFormatter(logging.Formatter):
    """Makes the line of a record: ``ts``, ``level``, ``event``, what the run is, the event's fields, ``msg`` last.

    Args:
        as_json: JSON instead of key=value.
        common: Fields of every line, such as the migration's name.
    """

    def __init__(self, *, as_json: bool, common: Fields) -> None:
        super().__init__()
        self._write = json_line if as_json else logfmt
        self._common = common

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Value] = {
            "ts": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": getattr(record, EVENT, record.name),
            **self._common,
            **getattr(record, FIELDS, {}),
        }
        return self._write({**fields, "msg": record.getMessage() or None})


def steps_text(steps: Iterable[tuple[str, float]]) -> str:
    """Names and seconds in one value."""
    return ",".join(f"{name.replace(' ', '-')}={seconds:.6f}" for name, seconds in steps)


def _plain(value: Value) -> Any:
    """As JSON may hold it: numbers rounded, texts bounded and without credentials."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, _DECIMALS) if abs(value) < float("inf") else None
    return _cut(redact(str(value)))


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return f"{value:.{_DECIMALS}f}" if isinstance(value, float) else _cut(redact(str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}..."


def _quoted(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"
