"""Where a dashboard listens, and under which names browsers may ask for it. Without I/O.

A page of somebody else can send a browser to us under a name of its own that leads to our address (DNS rebinding). So
the server answers only to the names that stand here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from keyferry.model.errors import UsageError

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = (LOOPBACK, "localhost", "[::1]")
HTTP_PORT = 80
"""Left out of a Host header (RFC 9110, 4.2.3)."""
_HINT = "Such as 8080, 127.0.0.1:8080 or [::1]:8080; port 0 takes any that is free."


@dataclass(frozen=True, slots=True)
class HttpPlace:
    """An address to listen on.

    Attributes:
        host: A name or an address; IPv6 without brackets.
        port: 0: any free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def parse_place(text: str) -> HttpPlace:
    """``[HOST:]PORT``, on this machine alone when no host is given.

    Raises:
        UsageError: It is of another form.
    """
    host, colon, port = text.strip().rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise UsageError(f"{text!r} does not end in a port.", _HINT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"In {text!r} an IPv6 address has to stand in brackets.", _HINT)
    if colon and not host:
        raise UsageError(f"{text!r} names no host.", _HINT)
    return HttpPlace(host or LOOPBACK, int(port))


def check_host_name(text: str) -> str:
    """A name that may stand in a Host header, with or without a port.

    Raises:
        UsageError: It cannot.
    """
    name = text.strip().lower()
    if not name or any(letter in name for letter in "/@?#\\*, ") or not name.isprintable():
        raise UsageError(f"{text!r} is not the name of a host.", "Such as migration.example.org")
    return name


def bracketed(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it. ``address``: numbers, as the system says them."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def host_names(
    place: HttpPlace, address: str, further: Iterable[str] = (), machine: str = ""
) -> tuple[str, ...]:
    """The Host headers to answer to, in small letters.

    Args:
        place: With the port that is listened on.
        address: The one that is listened on, in numbers.
        further: What ``--http-host`` says: behind a proxy a name without our port is asked for, too.
        machine: This machine's name: it counts when all its addresses are listened on.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    names = [place.host.lower(), address] if not ip.is_unspecified else [machine.lower()]
    names = [bracketed(name) for name in names if name]
    if ip.is_loopback or ip.is_unspecified:
        names += LOOPBACK_NAMES
    hosts = [f"{name}:{place.port}" for name in names]
    if place.port == HTTP_PORT:
        hosts += names
    for name in further:
        hosts.append(name)
        if not _has_port(name):
            hosts.append(f"{name}:{place.port}")
    return tuple(dict.fromkeys(hosts))


def url(place: HttpPlace, address: str) -> str:
    """To be opened on this machine. Arguments as of ``host_names``.

    On a loopback address in numbers: browsers look for ``localhost`` on ::1 first, where somebody else of this machine
    may listen on the same port, and would read the token.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.is_unspecified:
        return f"http://{'[::1]' if ip.version == 6 else LOOPBACK}:{place.port}/"
    if ip.is_loopback:
        return f"http://{bracketed(str(ip))}:{place.port}/"
    return f"http://{place}/"


def _has_port(name: str) -> bool:
    return ":" in name.rpartition("]")[2]
