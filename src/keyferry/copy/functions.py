"""Function libraries: no key, so carried apart (FUNCTION DUMP and RESTORE, since Redis 7.0)."""

from __future__ import annotations

from typing import Literal

from keyferry.model.errors import ServerError
from keyferry.payload.footer import resign
from keyferry.wire.resp import ReplyError
from keyferry.wire.session import Session

Policy = Literal["APPEND", "REPLACE", "FLUSH"]
"""FUNCTION RESTORE's: libraries of the same name refuse, are replaced, or all that were there go first."""


def copy_functions(source: Session, target: Session, *, policy: Policy, target_version: int) -> int:
    """Carries all libraries; returns how many there are.

    Args:
        policy: What becomes of the target's own. APPEND ends the run, naming the library.
        target_version: RDB version under which the payload is signed: it has a DUMP payload's footer
            (functions.c, functionDumpCommand).

    Raises:
        ServerError: Either side has no functions, or refuses.
    """
    libraries = source.call("FUNCTION", "LIST")
    if isinstance(libraries, ReplyError):
        raise ServerError(
            "source",
            f"The source does not give its functions: {libraries.message}.",
            "Leave --functions out.",
        )
    if not isinstance(libraries, list) or not libraries:
        if policy == "FLUSH":
            target.call("FUNCTION", "FLUSH")
        return 0
    payload = source.call("FUNCTION", "DUMP")
    if not isinstance(payload, bytes):
        message = payload.message if isinstance(payload, ReplyError) else "no payload"
        raise ServerError(
            "source", f"The source does not give its functions: {message}.", "Leave --functions out."
        )
    reply = target.call("FUNCTION", "RESTORE", resign(payload, target_version), policy)
    if isinstance(reply, ReplyError):
        raise ServerError(
            "target",
            f"The target does not take the functions: {reply.message}.",
            "Leave --functions out, or choose --on-conflict replace to replace libraries of the same name.",
        )
    return len(libraries)
