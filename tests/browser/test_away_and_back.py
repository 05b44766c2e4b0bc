"""A browser that goes away, a server that goes away, a migration that dies: the page says so, and comes back by itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
from dashboard_page import LOST, REFUSED, Dashboard, a_browser, looking
from playwright.sync_api import Browser
from shop import Shop, running

from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import HOST, Server

CHARTS = ("rate", "lag", "latency", "dirty", "changes")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from a_browser()


def rows(shop: Shop, since_ms: int) -> Callable[[], bool]:
    """Whether the history has grown since then."""
    return lambda: len(shop.ask("history", after_ms=since_ms).facts["rows"]) > 2


def has_history_of(dashboard: Dashboard, begun_ms: int, ended_ms: int) -> None:
    """Every chart shows the time from the one moment to the other."""
    for chart in CHARTS:
        dashboard.page.wait_for_function(
            """([chart, begun, ended]) => {
                const svg = document.querySelector(`svg[data-chart=${chart}]`);
                return svg && Number(svg.dataset.fromMs) <= begun && Number(svg.dataset.toMs) >= ended;
            }""",
            arg=[chart, begun_ms, ended_ms],
        )


def test_a_browser_that_was_away_has_missed_nothing(browser: Browser, flushed: Callable[..., Server]) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with (
        running(source, target) as shop,
        FaultProxy(HOST, shop.port) as network,
        looking(browser, f"http://{HOST}:{network.port}") as desk,
    ):
        desk.open()
        desk.station_is("ready")
        seen = shop.wait_for("history", lambda: shop.ask("history").facts["rows"])
        desk.excuse(LOST)
        network.refuse(True)
        network.cut()
        desk.connection_is("lost")
        shop.cut_over()
        switched = shop.wait_until("the cutover", lambda status: status["switches"])["switches"][-1]["at_ms"]
        shop.wait_for("later history", rows(shop, switched))
        desk.has("#switches tr", 0)
        network.refuse(False)
        desk.connection_is("live")
        desk.station_is("follow back")
        desk.has("#switches tr:has([data-mark=good])", 1)
        has_history_of(desk, seen[-1][0], switched)
        desk.page.close()
        with looking(browser, shop.origin) as another:
            another.open()
            another.station_is("follow back")
            has_history_of(another, seen[-1][0], switched)


def test_killed_and_started_again_it_is_found_by_the_open_page(
    browser: Browser, flushed: Callable[..., Server]
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with running(source, target) as shop, looking(browser, shop.origin) as desk:
        desk.open(shop.token)
        desk.station_is("ready")
        old = shop.token
        desk.excuse(LOST)
        shop.kill()
        desk.connection_is("died")
        desk.says("#glance-next", "same .*command")
        shop.start()
        desk.connection_is("live")
        desk.station_is("ready")
        assert shop.token != old
        desk.excuse(REFUSED)
        desk.press("cutover")
        desk.says("#confirm-sentence", "token")
        desk.leave()
        desk.page.locator("#token").fill(shop.token)
        desk.page.keyboard.press("Enter")
        desk.press("cutover")
        desk.says("#confirm-lines", "authority goes from the source")
        desk.leave()
        desk.excuse(LOST)
        shop.process.send_signal(signal.SIGINT)
        desk.connection_is("ended")
        # Who stops it by hand is not told that there is trouble.
        desk.health_is("over")
        desk.says("#glance-next", "same command again")


def test_a_look_that_grows_old_says_so_before_it_is_too_old(
    browser: Browser, flushed: Callable[..., Server]
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with running(source, target) as shop, looking(browser, shop.origin) as desk:
        desk.open()
        desk.station_is("ready")
        desk.says("#connection", "live")
        shop.process.send_signal(signal.SIGSTOP)
        try:
            desk.says("#connection", "last look \\d+ s ago")
            desk.connection_is("old")
        finally:
            shop.process.send_signal(signal.SIGCONT)
        desk.says("#connection", "live")


def test_a_server_that_is_away_is_seen(
    browser: Browser, flushed: Callable[..., Server], start_server: Callable[..., Server]
) -> None:
    source, target = flushed("redis-7.0"), start_server("valkey-9.1")
    with running(source, target) as shop, looking(browser, shop.origin) as desk:
        desk.open()
        desk.station_is("ready")
        desk.health_is("good")
        with target.session() as session:
            assert session.call("SAVE") == b"OK"
        target.kill()
        desk.says("#glance", "the target does not answer")
        desk.health_is("attention|trouble")
        target.start()
        desk.health_is("good")
        desk.station_is("ready")
