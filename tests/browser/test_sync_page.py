"""``keyferry sync --http``: the same page, without what only a migration has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dashboard_page import a_browser, looking
from playwright.sync_api import Browser
from shop import running

from keyferry.testing.servers import Server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from a_browser()


def test_a_sync_is_watched(browser: Browser, flushed: Callable[..., Server]) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with running(source, target, kind="sync") as shop, looking(browser, shop.origin) as desk:
        desk.open()
        desk.station_is("follow")
        desk.health_is("good")
        desk.has("#stations li", 2)
        desk.has("button[data-action=cutover]:visible", 0)
