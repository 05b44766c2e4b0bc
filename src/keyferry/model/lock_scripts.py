"""The scripts of redis-py's own locks, which do a known thing: a lock taken on one side must be there on the other.

The texts are those of redis.lock.Lock, the same in 5.0.8, 5.2.1, 6.4.0 and 8.1.0; a test holds the sums here against
the installed version.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

from keyferry.model.key_positions import Args, number
from keyferry.model.second import NOTHING, Second, one, raw

SCRIPT_TEXT_BYTES_MAX = 2_000
"""No longer text is summed up in search of a lock's."""


class LockScript(StrEnum):
    """What a script of a lock does to its key, if the lock is still held; it answers 1 then and else 0."""

    RELEASE = "release"
    EXTEND = "extend"
    REACQUIRE = "reacquire"


SCRIPTS = {
    b"c3f8721cbb97f72bc19e972846bd7aaf91901658": LockScript.RELEASE,
    b"a4e8783852e6b949f9ef3a97212805108459a890": LockScript.EXTEND,
    b"1cac51482acf5858da00f6d685d68f886cd6b6b2": LockScript.REACQUIRE,
}
"""By the SHA1 of the text: LUA_RELEASE_SCRIPT, LUA_EXTEND_SCRIPT, LUA_REACQUIRE_SCRIPT."""
_SHA1_LENGTH = 40


def lock_script(sha_or_text: str | bytes) -> LockScript | None:
    """Which of the locks' scripts it is: the first argument of EVALSHA or EVAL."""
    said = raw(sha_or_text)
    if len(said) == _SHA1_LENGTH:
        return SCRIPTS.get(said.lower())
    if len(said) > SCRIPT_TEXT_BYTES_MAX or b"KEYS[1]" not in said:
        return None
    return SCRIPTS.get(hashlib.sha1(said, usedforsecurity=False).hexdigest().encode())


def lock_second_leg(args: Args, reply: Any, now_ms: int) -> Second | None:
    """EVAL or EVALSHA script 1 lock token [milliseconds ["0" | "1"]]: its second leg; None of any other script."""
    script = lock_script(args[1])
    if script is None or len(args) < 5 or number(args[2]) != 1:
        return None
    if reply != 1:
        return NOTHING
    key = args[3]
    if script is LockScript.RELEASE:
        return one("DEL", key, expected=1)
    # An extension that is added to what was left starts from a moment that we do not know.
    added = script is LockScript.EXTEND and raw(args[6]) == b"0"
    if added:
        return Second(reported=(key,))
    return one("PEXPIREAT", key, now_ms + number(args[5]), expected=1)
