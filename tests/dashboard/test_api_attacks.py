"""What other pages, other people and clients that do not behave get of the dashboard: nothing, and nobody suffers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import psutil
import pytest
from serving import ANSWERS_WITHIN_S, JSON, LOOPBACK, TOKEN, Dashboard, Idle, idle_dashboard
from starlette.datastructures import Headers

from keyferry.app.dashboard.api import BROWSERS_MAX
from keyferry.app.dashboard.guarding import BODY_BYTES_MAX, WRONG_TOKENS_PER_S, Guard

HOSTS = ("127.0.0.1:8080", "localhost:8080", "move.example.org", "[::1]:8080")
ACT = "/api/actions/cutover"


@pytest.fixture(scope="module")
def idle_board() -> Iterator[tuple[Idle, Dashboard]]:
    """A run that does nothing, and its dashboard."""
    with idle_dashboard() as both:
        yield both


@pytest.fixture(scope="module")
def board(idle_board: tuple[Idle, Dashboard]) -> Dashboard:
    """Of a run that does nothing."""
    return idle_board[1]


def refused(method: str, path: str, **headers: str) -> int | None:
    """The status of the refusal; header names with _ in place of -."""
    given = {"host": HOSTS[0], **headers}
    found = Guard(HOSTS, TOKEN).refusal(
        method, path, Headers({name.replace("_", "-"): its for name, its in given.items()}), 0.0
    )
    return found.status if found else None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", None),
        ("LOCALHOST:8080", None),
        ("localhost:9000", None),  # ssh -L
        ("move.example.org", None),
        ("[::1]:8080", None),
        ("10.1.2.3:8080", None),  # Nobody can lead a number elsewhere.
        ("", 421),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("localhost.evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example@127.0.0.1:8080", 421),
        ("[::1", None),
        ("move.example.org.:80", 421),
    ],
)
def test_only_its_own_names_are_answered_to(host: str, status: int | None) -> None:
    assert refused("GET", "/", host=host) == status
    assert refused("GET", "/healthz", host=host) == status


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", None),
        ("none", "navigate", None),
        ("cross-site", "navigate", None),  # A link, or an address in a chat.
        ("cross-site", "no-cors", 403),
        ("cross-site", "cors", 403),
        ("same-site", "no-cors", 403),  # Another port of this machine.
        ("", "cors", 403),
    ],
)
def test_what_a_browser_marks_as_of_another_site_is_refused(site: str, mode: str, status: int | None) -> None:
    assert refused("GET", "/api/status", sec_fetch_site=site, sec_fetch_mode=mode) == status


GIVEN = {"content_type": JSON, "authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-origin"}, None),
        ({"origin": "https://move.example.org", "host": "127.0.0.1:8080"}, None),  # Behind a proxy.
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "file://127.0.0.1:8080"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": ""}, 415),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": "Bearer \xff\u20ac"[:8]}, 401),
    ],
)
def test_only_ones_own_page_with_the_token_acts(headers: dict[str, str], status: int | None) -> None:
    assert refused("POST", ACT, **{**GIVEN, **headers}) == status


def test_without_a_token_nobody_acts() -> None:
    for given in ("Bearer", "Bearer ", ""):
        headers = Headers({"host": HOSTS[0], "content-type": JSON, "authorization": given})
        found = Guard(HOSTS, "").refusal("POST", ACT, headers, 0.0)
        assert found is not None and found.status == 401


@pytest.mark.parametrize(("dest", "status"), [("document", None), ("iframe", 403), ("object", 403)])
def test_a_link_may_lead_here_and_a_frame_may_not(dest: str, status: int | None) -> None:
    marks = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": dest}
    found = Guard(HOSTS, TOKEN).refusal("GET", "/api/events", Headers({"host": HOSTS[0], **marks}), 0.0)
    assert (found and found.status) == status


def test_guesses_are_slowed_and_the_right_token_is_not() -> None:
    guard = Guard(HOSTS, TOKEN)
    right, wrong = (
        Headers({"host": HOSTS[0], "content-type": JSON, "authorization": f"Bearer {token}"})
        for token in (TOKEN, "guess")
    )
    statuses = []
    for number in range(WRONG_TOKENS_PER_S + 3):
        found = guard.refusal("POST", ACT, wrong, number / 100)
        assert found is not None
        statuses.append(found.status)
        assert guard.refusal("POST", ACT, right, number / 100) is None
    assert statuses == [401] * WRONG_TOKENS_PER_S + [429] * 3
    later = guard.refusal("POST", ACT, wrong, 1.1)
    assert later is not None and later.status == 401


def test_it_is_so_over_http(board: Dashboard) -> None:
    assert board.get("/", Host="evil.example").status == 421
    assert board.get("/api/status", Host="evil.example").json["exit_code"] == 4
    assert board.get("/api/status", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status == 403
    assert board.act("pause", headers={"Origin": "http://evil.example"}).status == 403
    assert board.act("pause", headers={"Content-Type": "text/plain"}).status == 415
    unknown = board.act("pause", token="guess")
    assert unknown.status == 401 and unknown.headers["www-authenticate"] == "Bearer"
    assert board.request("POST", "/api/actions/pause", b"{}", {"Content-Type": JSON}).status == 401
    # The token counts in the header alone.
    assert (
        board.request("POST", f"/api/actions/pause?token={TOKEN}", b"{}", {"Content-Type": JSON}).status
        == 401
    )
    assert board.get("/api/actions/pause").status == 405
    preflight = board.request("OPTIONS", "/api/actions/pause", headers={"Origin": "http://evil.example"})
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert not board.get("/api/status").json["paused"]


def test_every_answer_keeps_browsers_in(board: Dashboard) -> None:
    for path in ("/", "/static/app.js", "/api/status", "/nothing", "/openapi.json", "/healthz"):
        headers = board.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
        assert "server" not in headers


@pytest.mark.parametrize(
    "path", ["/static/../api.py", "/static/%2e%2e/api.py", "/static/..%2fapi.py", "/static/"]
)
def test_nothing_but_the_page_is_served(board: Dashboard, path: str) -> None:
    assert board.get(path).status == 404


ASKED = (
    b"POST /api/actions/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
)
PIECE = b"1000\r\n" + b" " * 0x1000 + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (ASKED + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), b"413"),
        (ASKED + b"Content-Length: 1000000000000\r\n\r\n", b"413"),
        (ASKED + b"Content-Length: 1e3\r\n\r\n", b"400"),
        # In pieces that say nothing of the whole length.
        (ASKED + b"Transfer-Encoding: chunked\r\n\r\n" + PIECE * 16 + b"1\r\n \r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000, b"4"),
    ],
    ids=["length", "huge length", "no length", "chunked", "header"],
)
def test_long_bodies_and_headers_are_refused(board: Dashboard, sent: bytes, status: bytes) -> None:
    with socket.create_connection((LOOPBACK, board.port), timeout=ANSWERS_WITHIN_S) as client:
        client.sendall(sent)
        assert client.recv(100).startswith(b"HTTP/1.1 " + status)
    assert board.get("/api/status").status == 200


def test_browsers_have_a_bound_and_their_places_come_free(board: Dashboard) -> None:
    with ExitStack() as opened:
        for _ in range(BROWSERS_MAX):
            events = opened.enter_context(board.events())
            assert events.answer.status == 200
            events.until("status")
        assert board.get("/api/events").status == 503
        assert board.get("/api/status").status == 200
    board.wait_for_place()


def test_browsers_that_come_at_once_are_counted_too() -> None:
    with idle_dashboard() as (_, board), ExitStack() as opened:
        clients = [
            opened.enter_context(socket.create_connection((LOOPBACK, board.port), timeout=ANSWERS_WITHIN_S))
            for _ in range(BROWSERS_MAX + 8)
        ]
        for client in clients:
            client.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers = [client.recv(12)[9:] for client in clients]
        assert (answers.count(b"200"), answers.count(b"503")) == (BROWSERS_MAX, 8)


def test_one_that_does_not_read_or_never_ends_its_request_is_let_go() -> None:
    with idle_dashboard(bounds={"HEADERS_S": 0.3, "UNREAD_S": 0.3}) as (idle, board):
        with socket.socket() as deaf, board.events() as events:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((LOOPBACK, board.port))
            # More is asked for than all buffers on the way hold, and not one byte read.
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
            # Meanwhile others are served.
            events.until("status")
            idle.desk.publish({"name": "shop", "stage": "copying"})
            assert events.until("status")["stage"] == "copying"
            assert board.get("/api/status").status == 200
            is_let_go(deaf, board.process.pid)
        for begun in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: local"):
            with socket.create_connection((LOOPBACK, board.port), timeout=ANSWERS_WITHIN_S) as slow:
                slow.sendall(begun)
                assert ends(slow)
        again = HTTPConnection(LOOPBACK, board.port, timeout=ANSWERS_WITHIN_S)
        with closing(again):
            again.request("GET", "/healthz")
            again.getresponse().read()
            # The next request on the same connection.
            again.sock.sendall(b"GET / HT")
            assert ends(again.sock)
        assert board.get("/api/status").status == 200


def ends(connection: socket.socket) -> bool:
    """Reads all that comes; whether it is closed then."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def is_let_go(connection: socket.socket, process: int) -> None:
    """Waits until that process has it no more. Without reading."""
    until_s = time.monotonic() + ANSWERS_WITHIN_S
    here = connection.getsockname()
    while here in [tuple(one.raddr) for one in psutil.Process(process).net_connections("tcp4")]:
        assert time.monotonic() < until_s, "it is still served"
        time.sleep(0.05)
