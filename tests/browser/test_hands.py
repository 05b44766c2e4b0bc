"""Whoever has only a keyboard, or no token: what they can and cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dashboard_page import PHONE, REFUSED, Dashboard, a_browser, looking
from playwright.sync_api import Browser, expect
from shop import Shop, running

from keyferry.testing.servers import Server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from a_browser()


def acting(page: Dashboard, headers: str) -> int:
    """The status of what the page's own script is answered."""
    return int(
        page.evaluate(
            f"""async () => (await fetch("/api/actions/pause", {{
                method: "POST", body: "{{}}",
                headers: {{"Content-Type": "application/json", {headers}}},
            }})).status"""
        )
    )


def test_a_keyboard_is_enough_and_a_token_is_needed(browser: Browser, flushed: Callable[..., Server]) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with (
        running(source, target) as shop,
        looking(browser, shop.origin, PHONE) as phone,
    ):
        phone.excuse(REFUSED)
        phone.open()
        phone.station_is("ready")
        nothing_happens_without_a_token(shop, phone)
        everything_is_reached(phone)
        phone.page.locator("#token").focus()
        phone.page.keyboard.type(shop.token)
        phone.page.keyboard.press("Enter")
        phone.may_press("cutover")
        everything_is_reached(phone)
        phone.button("cutover").focus()
        phone.page.keyboard.press("Enter")
        phone.says("#confirm-lines", "authority goes from the source")
        assert phone.overflow_px() <= 0
        assert phone.too_small() == []
        phone.leave()
        expect(phone.button("cutover")).to_be_focused()
        assert shop.status()["switches"] == []
        another_site_gets_nothing(browser, shop)


def nothing_happens_without_a_token(shop: Shop, page: Dashboard) -> None:
    assert acting(page, "") == 401
    assert acting(page, '"Authorization": "Bearer nonsense"') == 401
    assert shop.status()["paused"] is False


def everything_is_reached(phone: Dashboard) -> None:
    """By the Tab key alone, and by a thumb; nothing is cut off."""
    there, reached = phone.reached_by_tab()
    assert there - reached == set()
    assert phone.too_small() == []
    assert phone.overflow_px() <= 0


def another_site_gets_nothing(browser: Browser, shop: Shop) -> None:
    """A page of elsewhere in the same browser, even with the token in its hand."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto("data:text/html,<title>elsewhere</title>")
        for method, token in (("GET", ""), ("POST", shop.token)):
            answer = page.evaluate(
                """async ([place, method, token]) => {
                    const given = {method, headers: token ? {
                        "Authorization": `Bearer ${token}`, "Content-Type": "application/json"} : {}};
                    if (method === "POST") given.body = "{}";
                    try { return (await fetch(place, given)).status; } catch (error) { return "nothing"; }
                }""",
                [f"{shop.origin}/api/{'actions/pause' if token else 'status'}", method, token],
            )
            assert answer == "nothing"
        assert shop.status()["paused"] is False
    finally:
        context.close()
