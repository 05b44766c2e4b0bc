"""Addresses of servers: what a user writes, and what may be shown of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from keyferry.model.errors import UsageError

FORMS = "redis://[user[:password]@]host[:port][/db], rediss://..., valkey://..., valkeys://... or unix:///path[?db=N]"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Files in PEM form. ``verify`` off is only ever an explicit choice of the user."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens and who we are there. ``repr`` and ``str`` never show the password."""

    host: str = ""
    port: int = 6379
    unix_path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: TlsSettings | None = None

    @property
    def location(self) -> str:
        """``host:port`` or the socket's path: the same server has the same, whoever asks."""
        if self.unix_path:
            return self.unix_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        if self.unix_path:
            return f"unix://{self.unix_path}"
        return f"{'rediss' if self.tls else 'redis'}://{self.location}"

    def with_password(self, password: str) -> Endpoint:
        return replace(self, password=password)


def parse_endpoint(url: str, tls: TlsSettings | None = None) -> Endpoint:
    """Reads an address.

    Args:
        url: One of the forms in ``FORMS``; user and password percent-encoded.
        tls: Used when the scheme asks for TLS.

    Raises:
        UsageError: The address cannot be read. The message never repeats user or password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(
            "The address has a port that is not a number from 1 to 65535.", f"Use {FORMS}."
        ) from None
    scheme = parts.scheme.lower()
    if scheme not in ("redis", "rediss", "valkey", "valkeys", "unix"):
        raise UsageError(
            f"The address has the unknown scheme {scheme!r}." if scheme else "The address has no scheme.",
            f"Use {FORMS}.",
        )
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise UsageError("The unix address names no socket.", f"Use {FORMS}.")
        db_text = parts.query.removeprefix("db=") if parts.query else "0"
        return Endpoint(
            unix_path=unquote(parts.path), db=_database(db_text), username=username, password=password
        )
    if not parts.hostname:
        raise UsageError("The address names no host.", f"Use {FORMS}.")
    if parts.query or parts.fragment:
        raise UsageError(
            "The address has a part after '?' or '#'.",
            f"Percent-encode special characters in the password; use {FORMS}.",
        )
    return Endpoint(
        host=parts.hostname,
        port=6379 if port is None else port,
        db=_database(parts.path.strip("/") or "0"),
        username=username,
        password=password,
        tls=(tls or TlsSettings()) if scheme in ("rediss", "valkeys") else None,
    )


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError("The address ends in a database that is not a number.", f"Use {FORMS}.")
    return int(text)
