"""Errors that reach a user: whose fault, one sentence, what to do, one exit code.

A difference found or a key that failed is a result, not an error.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Literal

Side = Literal["source", "target"]


class ExitCode(IntEnum):
    """What the command's exit status says; documented in ``--help`` and docs/exit-codes.md."""

    DONE = 0
    KEYS_FAILED = 1
    USAGE = 2
    SERVER = 3
    REFUSED = 4
    INTERRUPTED = 130


class KeyferryError(Exception):
    """An end of the run that a user is told about.

    Args:
        message: One sentence that says what is wrong. Never holds a password.
        hint: One sentence that says what to do; may be empty.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.SERVER

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UsageError(KeyferryError):
    """The command or its input is wrong."""

    exit_code = ExitCode.USAGE


class ServerError(KeyferryError):
    """A server cannot be reached, refuses us, or is lost for good."""

    exit_code = ExitCode.SERVER

    def __init__(self, side: Side, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.side: Side = side


class ServerAway(ServerError):
    """It does not answer now: down, still loading, out of connections. Trying again may help."""


class RefusedError(KeyferryError):
    """A safety check says no."""

    exit_code = ExitCode.REFUSED


class InterruptedRun(KeyferryError):
    """Ctrl-C or SIGTERM; everything acknowledged is in the checkpoint."""

    exit_code = ExitCode.INTERRUPTED
