"""Addresses of servers: what a user writes, and what may be shown of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from keyferry.model.errors import UsageError

FORMS = "redis://[user[:password]@]host[:port][/db], rediss://..., valkey://..., valkeys://... or unix:///path[?db=N]"
CLUSTER_FORMS = "redis+cluster://[user[:password]@]host[:port],host[:port],... (or rediss+cluster://..., valkey+cluster://..., valkeys+cluster://...)"
DEFAULT_PORT = 6379

_TLS_SCHEMES = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}
_CLUSTER_SUFFIX = "+cluster"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Files in PEM form. ``verify`` off is only ever an explicit choice of the user."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens and who we are there. ``repr`` and ``str`` never show the password.

    Attributes:
        alternatives: Host and port of further nodes of the same cluster to start from.
        cluster: The user says that it is a cluster; without it, the server is asked.
    """

    host: str = ""
    port: int = DEFAULT_PORT
    unix_path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: TlsSettings | None = None
    alternatives: tuple[tuple[str, int], ...] = ()
    cluster: bool = False

    @property
    def location(self) -> str:
        """``host:port``, several with commas, or the socket's path: the same server has the same, whoever asks."""
        if self.unix_path:
            return self.unix_path
        return ",".join(place_text(*place) for place in ((self.host, self.port), *self.alternatives))

    def __str__(self) -> str:
        if self.unix_path:
            return f"unix://{self.unix_path}"
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}{_CLUSTER_SUFFIX if self.cluster else ''}://{self.location}"

    def with_password(self, password: str) -> Endpoint:
        return replace(self, password=password)

    def seeds(self) -> tuple[Endpoint, ...]:
        """A plain endpoint for each node that is named; one that is plain gives itself."""
        plain = replace(self, alternatives=(), cluster=False)
        return (plain, *(plain.at(host, port) for host, port in self.alternatives))

    def at(self, host: str, port: int) -> Endpoint:
        """Another node with the same credentials and TLS files, on database 0."""
        return replace(self, host=host, port=port, unix_path="", db=0, alternatives=(), cluster=False)


def place_text(host: str, port: int) -> str:
    """``host:port``, the host in brackets where it is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_place(text: str) -> tuple[str, int | None]:
    """Reads ``host[:port]``, an IPv6 address in brackets. The host comes back in lower case.

    Raises:
        UsageError: It is something else.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise UsageError(f"{text!r} is not of the form [IPv6 address]:port.")
        colon, port_text = rest[:1], rest[1:]
    else:
        host, colon, port_text = text.partition(":")
        if ":" in port_text:
            raise UsageError(f"{text!r} has more than one colon.", "Put an IPv6 address in brackets.")
    if not host or any(character.isspace() or character in "[]@/?#" for character in host):
        raise UsageError(f"{text!r} names no host.")
    if not colon:
        return host.lower(), None
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
        raise UsageError(f"{text!r} has a port that is not a number from 1 to 65535.")
    return host.lower(), int(port_text)


def parse_endpoint(url: str, tls: TlsSettings | None = None) -> Endpoint:
    """Reads an address.

    Args:
        url: One of the forms in ``FORMS`` and ``CLUSTER_FORMS``; user and password percent-encoded.
        tls: Used when the scheme asks for TLS.

    Raises:
        UsageError: The address cannot be read. The message never repeats user or password.
    """
    if url.partition("://")[0].lower().endswith(_CLUSTER_SUFFIX):
        return _cluster_endpoint(url, tls)
    try:
        parts = urlsplit(url)
        several = "," in parts.netloc.rpartition("@")[2]
        port = None if several else parts.port
    except ValueError:
        raise UsageError(
            "The address has a port that is not a number from 1 to 65535.", f"Use {FORMS}."
        ) from None
    scheme = parts.scheme.lower()
    if scheme != "unix" and scheme not in _TLS_SCHEMES:
        raise UsageError(
            f"The address has the unknown scheme {scheme!r}." if scheme else "The address has no scheme.",
            f"Use {FORMS}, or {CLUSTER_FORMS}.",
        )
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise UsageError("The unix address names no socket.", f"Use {FORMS}.")
        db_text = parts.query.removeprefix("db=") if parts.query else "0"
        return Endpoint(
            unix_path=unquote(parts.path), db=_database(db_text), username=username, password=password
        )
    if several:
        raise UsageError("The address names several hosts.", f"For a cluster's nodes use {CLUSTER_FORMS}.")
    if not parts.hostname:
        raise UsageError("The address names no host.", f"Use {FORMS}.")
    if parts.query or parts.fragment:
        raise UsageError(
            "The address has a part after '?' or '#'.",
            f"Percent-encode special characters in the password; use {FORMS}.",
        )
    return Endpoint(
        host=parts.hostname,
        port=DEFAULT_PORT if port is None else port,
        db=_database(parts.path.strip("/") or "0"),
        username=username,
        password=password,
        tls=(tls or TlsSettings()) if _TLS_SCHEMES[scheme] else None,
    )


def names_database(url: str) -> bool:
    """Whether a readable address names its database, rather than meaning 0 by saying nothing."""
    scheme, _, rest = url.partition("://")
    if scheme.lower().endswith(_CLUSTER_SUFFIX):
        return bool(rest.partition("/")[2].strip("/"))
    parts = urlsplit(url)
    return bool(parts.query) if parts.scheme.lower() == "unix" else bool(parts.path.strip("/"))


def _cluster_endpoint(url: str, tls: TlsSettings | None) -> Endpoint:
    scheme_text, _, rest = url.partition("://")
    scheme = scheme_text.lower().removesuffix(_CLUSTER_SUFFIX)
    if scheme not in _TLS_SCHEMES:
        raise UsageError(
            f"The address has the unknown scheme {scheme_text.lower()!r}.", f"Use {CLUSTER_FORMS}."
        )
    if "?" in rest or "#" in rest:
        raise UsageError(
            "The address has a part after '?' or '#'.",
            f"Percent-encode special characters in the password; use {CLUSTER_FORMS}.",
        )
    authority, _, path = rest.partition("/")
    credentials, _, names = authority.rpartition("@")
    if path.strip("/") and _database(path.strip("/")):
        raise UsageError("A cluster has no other database than 0.", "Leave the database out of the address.")
    username, _, password = credentials.partition(":")
    first, *others = (_node(text) for text in names.split(","))
    return Endpoint(
        host=first[0],
        port=first[1],
        username=unquote(username),
        password=unquote(password),
        tls=(tls or TlsSettings()) if _TLS_SCHEMES[scheme] else None,
        alternatives=tuple(dict.fromkeys(place for place in others if place != first)),
        cluster=True,
    )


def _node(text: str) -> tuple[str, int]:
    if not text:
        raise UsageError("The address names no host.", f"Use {CLUSTER_FORMS}.")
    try:
        host, port = parse_place(text)
    except UsageError as error:
        raise UsageError(f"In the address, {error.message}", f"Use {CLUSTER_FORMS}.") from None
    return host, DEFAULT_PORT if port is None else port


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError("The address ends in a database that is not a number.", f"Use {FORMS}.")
    return int(text)
