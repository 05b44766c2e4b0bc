"""Keeps passwords out of what other people can see: the process list and our own messages.

``ps`` shows a process's arguments to every user of the machine. The title is rewritten as the first thing the
process does, before the imports that take most of its start, so a password in an address can be seen for the
few hundredths of a second in which Python itself starts. A password in the environment or in a file is never
in the list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"

# Everything up to the last "@" counts as credentials, also where somebody forgot to percent-encode a "/".
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s@:]*)(:?)[^\s]*@")


def redact(text: str) -> str:
    """The text with the credentials of every address in it hidden; a user name before a password stays."""
    return _CREDENTIALS.sub(_replacement, text)


def _replacement(match: re.Match[str]) -> str:
    scheme, name, colon = match.groups()
    return f"{scheme}{name}:{HIDDEN}@" if colon else f"{scheme}{HIDDEN}@"


def process_title(arguments: Sequence[str]) -> str | None:
    """The title to show instead of the command's arguments; None when they hold nothing to hide."""
    shown = [redact_argument(argument) for argument in arguments]
    return " ".join(["keyferry", *shown]) if shown != list(arguments) else None


def redact_argument(argument: str) -> str:
    """As ``redact``, for one argument: a blank in a password does not end it."""
    head, scheme, rest = argument.partition("://")
    credentials, at, location = rest.rpartition("@")
    if not at:
        return argument
    name, colon, _ = credentials.partition(":")
    return f"{head}{scheme}{name}:{HIDDEN}@{location}" if colon else f"{head}{scheme}{HIDDEN}@{location}"


def hide_passwords(arguments: Sequence[str]) -> None:
    """Rewrites the process title where ``arguments`` (without the program's name) hold a password."""
    title = process_title(arguments)
    if title is not None:
        import setproctitle

        setproctitle.setproctitle(title)
