"""Values as payload bodies, in the plain encodings that every server from the type's first on takes.

A server that loads a plain encoding packs small values again by its own settings, so nothing is lost by it.
"""

from __future__ import annotations

import struct

from keyferry.model.values import HashValue, ListValue, SetValue, StreamValue, StringValue, Value, ZSetValue
from keyferry.payload.encode import length, string
from keyferry.payload.streams import STREAM, STREAM_2, STREAM_3, write_stream

_DOUBLE = struct.Struct("<d")
_INF = float("inf")
_TEXT_SCORES = {_INF: b"\xfe", -_INF: b"\xff"}


def encode(value: Value, type_byte: int) -> bytes:
    """The body (type byte and value, no footer) of a value.

    Args:
        value: Hash fields with an expiry have no plain encoding: strip ``expiries`` first.
        type_byte: 0 string, 1 list, 2 set, 3 sorted set (scores as text), 4 hash, 5 sorted set, 15, 19 or 21
            stream.

    Raises:
        ValueError: The type byte is none of these, or not one for this value.
    """
    match value, type_byte:
        case StringValue(data), 0:
            parts = [string(data)]
        case ListValue(items), 1:
            parts = [length(len(items)), *map(string, items)]
        case SetValue(items), 2:
            parts = [length(len(items)), *map(string, items)]
        case ZSetValue(members), 3:
            parts = [
                length(len(members)),
                *(string(member) + _text_score(score) for member, score in members),
            ]
        case ZSetValue(members), 5:
            pack = _DOUBLE.pack
            parts = [length(len(members)), *(string(member) + pack(score) for member, score in members)]
        case HashValue(fields, expiries), 4 if not expiries:
            parts = [length(len(fields)), *(string(name) + string(data) for name, data in fields)]
        case StreamValue(), _ if type_byte in (STREAM, STREAM_2, STREAM_3):
            return write_stream(value, type_byte)
        case _:
            raise ValueError(f"A {type(value).__name__} cannot be written as type {type_byte}.")
    return b"".join((bytes((type_byte,)), *parts))


def _text_score(score: float) -> bytes:
    """17 digits, which name a double exactly; their number in one byte before them."""
    special = _TEXT_SCORES.get(score)
    if special is not None:
        return special
    text = b"%.17g" % score
    return bytes((len(text),)) + text
