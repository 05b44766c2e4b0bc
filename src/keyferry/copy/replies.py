"""What a server's refusal means for the run. Pure."""

from __future__ import annotations

from enum import Enum

from keyferry.model.errors import ServerError, Side


class Verdict(Enum):
    """What to do about an error reply."""

    WAIT = "wait"
    """The server will be able again: connect anew, with backoff, for a bounded time."""
    STOP = "stop"
    """Going on would only fail; the run ends with exit 3, and can be resumed."""
    BUSY = "busy"
    """The key is there already."""
    KEY = "key"
    """This key fails with its reason; the run goes on."""


_WAIT = frozenset(("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED"))
_STOP = frozenset(("OOM", "NOAUTH", "NOPERM", "WRONGPASS", "MISCONF", "NOREPLICAS", "DENIED"))


def verdict(message: str) -> Verdict:
    """Args: message: The error without its ``-``; its first word is the code."""
    code = message.partition(" ")[0]
    if code == "BUSYKEY":
        return Verdict.BUSY
    if code in _WAIT:
        return Verdict.WAIT
    if code in _STOP:
        return Verdict.STOP
    if "max number of clients" in message:
        return Verdict.WAIT
    return Verdict.KEY


class ServerBusy(Exception):
    """A server asks us to wait; the pipeline is made anew."""

    def __init__(self, side: Side, message: str) -> None:
        super().__init__(message)
        self.side: Side = side
        self.message = message

    @property
    def sentence(self) -> str:
        return f"The {self.side} says: {self.message.rstrip('.')}."


def raise_if_busy(side: Side, message: str) -> None:
    """Raises ServerBusy for an error that says to wait: a probe that it answers was not refused for good."""
    if verdict(message) is Verdict.WAIT:
        raise ServerBusy(side, message)


class ServerRefuses(ServerError):
    """What a server says no to. Attributes: code: The first word of its error."""

    def __init__(self, side: Side, code: str, message: str, hint: str) -> None:
        super().__init__(side, message, hint)
        self.code = code


def stopping_error(side: Side, message: str) -> ServerRefuses:
    """The end of the run for a refusal that waiting does not heal."""
    code = message.partition(" ")[0]
    hints = {
        "OOM": "Raise its maxmemory or make room, then give the same command again: it goes on where it was.",
        "NOPERM": "Give the user the right that is named, then give the same command again: it goes on where it was.",
        "NOAUTH": "The server asks for a password now; give it, and the same command goes on where it was.",
        "MISCONF": "Its disk or its persistence fails; mend that, then give the same command again.",
        "NOREPLICAS": "It has too few replicas to write; mend that, then give the same command again.",
    }
    return ServerRefuses(
        side,
        code,
        f"The {side} refuses: {message.rstrip('.')}.",
        hints.get(code, "Mend that, then give the same command again."),
    )
