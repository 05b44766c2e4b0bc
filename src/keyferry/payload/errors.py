"""What a payload can be refused for: it is broken, or the target cannot hold it."""

from __future__ import annotations


class PayloadError(ValueError):
    """The payload is not what a server writes: too short, a wrong checksum, a value that breaks off."""


class PayloadRefused(ValueError):
    """The payload is whole, but the target cannot hold what it says.

    Args:
        reason: What the target lacks and what to do about it, for the user.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
