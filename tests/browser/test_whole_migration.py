"""A whole migration of a live service, led by nobody but somebody in front of a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dashboard_page import LOST, PHONE, REFUSED, Dashboard, a_browser, looking
from playwright.sync_api import Browser, expect
from shop import KEY_NAMES, Shop, counted, running, served

from keyferry.testing.servers import Server

SWITCHED = "#switches tr:has([data-mark=good])"
SLOW = 100
"""Keys per second: the copy does not end before it is told to hurry."""
TRIES_MAX = 8


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from a_browser()


def fits(phone: Dashboard) -> None:
    assert phone.overflow_px() <= 0
    assert phone.too_small() == []


def switch(desk: Dashboard, command: str, made: int) -> None:
    """Pressed, looked at, confirmed, done. One that was put off or undone has changed nothing: pressed again."""
    for _ in range(TRIES_MAX):
        desk.press(command)
        if desk.answer() == "ok":
            desk.says("#confirm-lines", "live writers: 2")
            desk.confirm()
            if desk.answer() == "ok":
                break
        desk.leave()
    desk.says("#confirm-sentence", f"the {command} is made")
    desk.has(SWITCHED, made)
    desk.leave()


def test_copied_switched_taken_back_switched_finished(
    browser: Browser, flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with ExitStack() as stack:
        shop = stack.enter_context(running(source, target, "--max-rate", str(SLOW)))
        desk = stack.enter_context(looking(browser, shop.origin))
        phone = stack.enter_context(looking(browser, shop.origin, PHONE, "dark"))
        desk.excuse(REFUSED)
        desk.open(shop.token)
        phone.open()
        for one in (desk, phone):
            one.connection_is("live")
            one.station_is("copy")
            one.says("#glance-doing", "copying")
        assert shop.token not in desk.page.url
        fits(phone)
        hurry(desk)
        crowd = stack.enter_context(served(tmp_path, source, target))
        for one in (desk, phone):
            one.station_is("ready")
            one.health_is("good")
            one.says("#glance-next", "cut ?over")
        desk.has("#writers tr", 2)
        fits(phone)
        nothing_happens_unless_confirmed(desk, shop)
        switch(desk, "cutover", 1)
        for one in (desk, phone):
            one.station_is("follow back")
        fits(phone)
        assert shop.status()["authority"] == "target"
        switch(desk, "rollback", 2)
        phone.station_is("ready")
        assert shop.status()["authority"] == "source"
        switch(desk, "cutover", 3)
        desk.station_is("follow back")
        calls, there = counted(crowd, target)
        assert (there.missing, there.doubled, calls.errors()) == (0, 0, 0), there
        assert there.writes > 100
        names_are_masked(desk)
        with looking(browser, shop.origin) as report:
            report.page.goto(f"{shop.origin}/report")
            report.says("body", "rollback done")
            names_are_masked(report)
        for one in (desk, phone):
            # It is over, and whether somebody starts another one is looked for all the same.
            one.excuse(LOST)
        desk.press("finish")
        desk.confirm()
        for one in (desk, phone):
            one.connection_is("ended")
            one.says("#glance-doing", "finished")
        fits(phone)
        assert shop.end() == 0


def hurry(desk: Dashboard) -> None:
    """Takes the limit away, under which it would copy for half a minute."""
    desk.press("throttle")
    desk.page.locator("#confirm [name=max_rate]").fill("0")
    desk.confirm()
    desk.says("#confirm-sentence", "no limit")
    desk.leave()


def nothing_happens_unless_confirmed(desk: Dashboard, shop: Shop) -> None:
    desk.press("cutover")
    desk.says("#confirm-lines", "authority goes from the source")
    desk.leave()
    expect(desk.button("cutover")).to_be_focused()
    assert shop.status()["switches"] == []


def names_are_masked(desk: Dashboard) -> None:
    """Nobody asked for --show-keys."""
    text = desk.text()
    assert [name for name in KEY_NAMES if name in text] == []
