"""Tells one comparison from others, and one key of a sample from the rest. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from keyferry.copy.run import place_name
from keyferry.journal.state import state_name
from keyferry.verify.settings import VerifySettings

_ALL = 1 << 32


def verify_name(settings: VerifySettings) -> str:
    """The same for the same two locations, the same selection and the same idea of equality."""
    copy = settings.copy
    asked = json.dumps([settings.sample, settings.expiry_tolerance_ms, copy.drop_field_expiry])
    return state_name(place_name(copy.source), place_name(copy.target), copy.selection.fingerprint(), asked)


def share_of(sample: int, keys_total: int) -> int:
    """Of 2^32, how much is chosen, so that ``sample`` keys of about ``keys_total`` are."""
    return min(_ALL, sample * _ALL // max(1, keys_total))


def chooser(share: int | None) -> Callable[[bytes], bool] | None:
    """Whether a key belongs to the sample: by its name alone, so the same on both servers. None is all keys."""
    if share is None or share >= _ALL:
        return None

    def chooses(key: bytes) -> bool:
        return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "little") < share

    return chooses
