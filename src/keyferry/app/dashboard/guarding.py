"""Who may ask: what stands between other pages, other names and other people, and the migration.

- A page of somebody else can make a browser ask us under a name of its own that leads here (DNS rebinding): only the
  names we were given are answered to, and addresses in numbers, which nobody can lead elsewhere.
- It can send requests across sites: those that a browser marks as such, or of another origin, are refused. Nothing
  here is allowed to other origins, so they cannot read what they may have asked for either.
- Whoever acts needs the token. It comes in a header that no form and no link can send, never in an address.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyferry.model.errors import ExitCode

BODY_BYTES_MAX = 64 * 1024
BODY_S = 10.0
"""In which a body has to be there."""
WRONG_TOKENS_PER_S = 5
ACTIONS = "/api/actions/"

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is a no.

    Attributes:
        status: Of HTTP.
        exit_code: That a command with this fault would end with.
    """

    status: int
    sentence: str
    hint: str = ""
    exit_code: int = ExitCode.REFUSED
    headers: Mapping[str, str] | None = None

    def response(self, *, for_people: bool = False) -> Response:
        """As JSON of the shape of every answer; ``for_people``: as text."""
        if for_people:
            return PlainTextResponse(
                f"{self.sentence} {self.hint}".rstrip() + "\n", self.status, headers=self.headers
            )
        body = {
            "exit_code": int(self.exit_code),
            "sentence": self.sentence,
            "hint": self.hint,
            "facts": {},
            "said": [],
        }
        return Response(
            json.dumps(body), self.status, media_type="application/json", headers=dict(self.headers or {})
        )


class Guard:
    """The rules, without I/O.

    Args:
        hosts: Names to answer to, as a Host header says them, with or without a port.
        token: For what acts.
    """

    def __init__(self, hosts: Iterable[str], token: str) -> None:
        self._authorities = frozenset(host.lower() for host in hosts)
        self._names = frozenset(_name(host) for host in self._authorities)
        self._token = token.encode()
        self._wrong_s: deque[float] = deque(maxlen=WRONG_TOKENS_PER_S)

    def refusal(self, method: str, path: str, headers: Headers, now_s: float) -> Refusal | None:
        """Why this request is not answered; None when it is.

        Args:
            now_s: Monotonic.
        """
        host = headers.get("host", "").lower()
        if not self._is_ours(host):
            return Refusal(
                421,
                "The dashboard does not answer to this name.",
                "Open it by the address that keyferry printed, or give the name to --http-host.",
            )
        if not _may_fetch(method, headers):
            return Refusal(403, "Requests of other sites are refused.")
        if not path.startswith(ACTIONS) or method != "POST":
            return None
        return self._action_refusal(host, headers, now_s)

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        return bool(name) and (name in self._names or _is_address(name))

    def _action_refusal(self, host: str, headers: Headers, now_s: float) -> Refusal | None:
        origin = headers.get("origin")
        if origin is not None:
            scheme, _, authority = origin.lower().partition("://")
            if scheme not in ("http", "https") or authority not in self._authorities | {host}:
                return Refusal(403, "Requests of other sites are refused.")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return Refusal(
                415, "What acts is asked for with a Content-Type of application/json.", "", ExitCode.USAGE
            )
        return self._token_refusal(headers.get("authorization", ""), now_s)

    def _token_refusal(self, authorization: str, now_s: float) -> Refusal | None:
        scheme, _, given = authorization.partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
        # Without a token nobody acts.
        if right and self._token and scheme.lower() == "bearer":
            return None
        if given and len(self._wrong_s) == WRONG_TOKENS_PER_S and now_s - self._wrong_s[0] < 1.0:
            return Refusal(429, "Too many wrong tokens.", "", headers={"Retry-After": "1"})
        if given:
            self._wrong_s.append(now_s)
        return Refusal(
            401,
            "This token is not the dashboard's." if given else "What acts needs the dashboard's token.",
            "It is printed where keyferry was started, or the file is named that it stands in.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _name(host: str) -> str:
    """The host of an authority, without its port and brackets: a port can be led elsewhere (ssh -L), and a page of
    somebody else cannot come from our name."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _may_fetch(method: str, headers: Headers) -> bool:
    """By what browsers say of a request themselves (Fetch Metadata Request Headers, W3C). Links may lead here; a frame
    in somebody else's page may not even ask."""
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return True
    to_a_tab = headers.get("sec-fetch-dest", "document") == "document"
    return method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate" and to_a_tab


class Guarded:
    """The application behind the rules: bounds what comes in, and marks what goes out."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        marked = _marking(path, send)
        refusal = self._guard.refusal(scope["method"], path, Headers(scope=scope), time.monotonic())
        body = None
        if refusal is None and scope["method"] == "POST":
            body, refusal = await _body(Headers(scope=scope), receive)
        if refusal is not None:
            await refusal.response(for_people=not path.startswith("/api/"))(scope, receive, marked)
        else:
            await self._app(scope, receive if body is None else _replayed(body, receive), marked)


def _marking(path: str, send: Send) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers.update(_HEADERS)
            headers.setdefault("Content-Security-Policy", _CSP)
            # Files of the page are asked for anew with their ETag: another version may serve at this address next.
            headers["Cache-Control"] = "no-cache" if path.startswith("/static/") else "no-store"
        await send(message)

    return marked


async def _body(headers: Headers, receive: Receive) -> tuple[bytes, Refusal | None]:
    """The whole body, or why it is not taken."""
    too_long = Refusal(413, f"A request has to be shorter than {BODY_BYTES_MAX} bytes.", "", ExitCode.USAGE)
    length = headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 9 or int(length) > BODY_BYTES_MAX:
        return b"", too_long
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > BODY_BYTES_MAX:
                    return b"", too_long
                if not message.get("more_body", False):
                    return bytes(body), None
    except TimeoutError:
        return b"", Refusal(408, "The request did not come to its end.", "", ExitCode.USAGE)


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
