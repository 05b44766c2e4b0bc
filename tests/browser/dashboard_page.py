"""The dashboard's page as a person has it before them, and the watch that it does nothing behind their back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from dev.chromium import PROGRAMS, VARIABLE, browsing, chromium
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect
from shop import WITHIN_S

WITHIN_MS = WITHIN_S * 1000
DESK, PHONE = (1280, 800), (390, 844)
LOST = r"Failed to load resource: net::ERR_"
"""What Chromium says of every request while there is no network, or nobody listens."""
REFUSED = r"Failed to load resource: the server responded with a status of 4\d\d"
"""The same of an act that was refused."""
TOUCH_PX = 44
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI}`));
"""
_REACHABLE = "a[href], button, input, select, summary, [tabindex='0']"

Colours = Literal["light", "dark"]


def a_browser() -> Iterator[Browser]:
    """For a fixture of a module: where none is at hand its tests are skipped."""
    program = chromium()
    if program is None:
        pytest.skip(f"no Chromium is at hand: install {PROGRAMS[0]}, or name one in {VARIABLE}")
    with browsing(program) as browser:
        yield browser


class Dashboard:
    """One page. What it is asked to show it may take its time for; then it is a failure."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page, self._origin = page, origin
        self._complaints: list[str] = []
        self._excused: list[str] = []
        page.set_default_timeout(WITHIN_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._complaints.append(f"uncaught: {error}"))
        page.on("request", self._requested)

    def open(self, token: str = "") -> None:
        """As the address that the migration prints, or without its token."""
        self.page.goto(f"{self._origin}/{f'#token={token}' if token else ''}")

    def excuse(self, *patterns: str) -> None:
        """From now on these are no mistakes of the page in the browser's console."""
        self._excused += patterns

    def complaints(self) -> list[str]:
        """What may not happen: errors, requests to elsewhere, breaches of the page's own policy."""
        return [text for text in self._complaints if not self._is_excused(text)]

    def connection_is(self, state: str) -> None:
        expect(self.page.locator("#connection")).to_have_attribute("data-state", state, timeout=WITHIN_MS)

    def station_is(self, name: str) -> None:
        here = self.page.locator("#stations [aria-current=step]")
        expect(here).to_contain_text(re.compile(name, re.IGNORECASE), timeout=WITHIN_MS)

    def health_is(self, word: str) -> None:
        """``word`` may be several, as in a regular expression."""
        health = self.page.locator("#glance-health")
        expect(health).to_have_attribute("data-health", re.compile(f"^({word})$"), timeout=WITHIN_MS)

    def says(self, where: str, pattern: str) -> None:
        """Text that comes to stand in an element."""
        expect(self.page.locator(where)).to_contain_text(
            re.compile(pattern, re.IGNORECASE), timeout=WITHIN_MS
        )

    def has(self, what: str, number: int) -> None:
        expect(self.page.locator(what)).to_have_count(number, timeout=WITHIN_MS)

    def button(self, action: str) -> Locator:
        return self.page.locator(f"button[data-action={action}]")

    def may_press(self, action: str) -> None:
        expect(self.button(action)).not_to_have_attribute("aria-disabled", "true", timeout=WITHIN_MS)

    @property
    def dialog(self) -> Locator:
        return self.page.locator("dialog#confirm")

    def press(self, action: str) -> None:
        """Presses the button as soon as it may be pressed, and waits for its dialog."""
        self.may_press(action)
        self.button(action).click()
        expect(self.dialog).to_be_visible(timeout=WITHIN_MS)

    def confirm(self) -> None:
        """As soon as the dialog lets itself be confirmed."""
        go = self.page.locator("#confirm-go")
        expect(go).to_be_enabled(timeout=WITHIN_MS)
        go.click()

    def answer(self) -> str:
        """How what the dialog asked ended, as soon as it has: "ok", "attention" or "no"."""
        expect(self.dialog).to_have_attribute("data-outcome", re.compile(r"\w"), timeout=WITHIN_MS)
        return self.dialog.get_attribute("data-outcome") or ""

    def leave(self) -> None:
        """By Escape."""
        self.page.keyboard.press("Escape")
        expect(self.dialog).to_be_hidden(timeout=WITHIN_MS)

    def overflow_px(self) -> int:
        """By how much the page is wider than its window."""
        return int(
            self.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")
        )

    def too_small(self) -> list[str]:
        """Visible buttons that a thumb misses."""
        found: list[str] = []
        for button in self.page.locator("button:visible").all():
            box = button.bounding_box()
            if box is not None and (box["height"] < TOUCH_PX or box["width"] < TOUCH_PX):
                found.append(f"{button.inner_text()} {box['width']:.0f} x {box['height']:.0f}")
        return found

    def reached_by_tab(self) -> tuple[set[str], set[str]]:
        """What can be acted on, and of that what the Tab key comes to, with a focus that is seen."""
        marked: Sequence[str] = self.evaluate(
            """(selector) => [...document.querySelectorAll(selector)]
                .filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0)
                .map((one, index) => one.dataset.reached = `${index} ${one.textContent.trim() || one.id}`)""",
            _REACHABLE,
        )
        self.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
        reached: set[str] = set()
        for _ in range(len(marked) + 2):
            self.page.keyboard.press("Tab")
            name = self.evaluate(
                """() => { const one = document.activeElement, style = getComputedStyle(one);
                const seen = style.outlineStyle !== "none" || style.boxShadow !== "none";
                return seen ? one.dataset.reached : null; }"""
            )
            if name is not None:
                reached.add(name)
        return set(marked), reached

    def evaluate(self, script: str, argument: object = None) -> Any:
        return self.page.evaluate(script, argument)

    def text(self) -> str:
        """All that stands in the page, shown or folded away."""
        return str(self.evaluate("document.documentElement.textContent"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(f"{self._origin}/"):
            self._complaints.append(f"a request to {request.url}")

    def _is_excused(self, text: str) -> bool:
        return any(re.search(pattern, text) for pattern in self._excused)


@contextmanager
def looking(
    browser: Browser, origin: str, size: tuple[int, int] = DESK, colours: Colours = "light"
) -> Iterator[Dashboard]:
    """A page of its own session storage, which at the end of the block has to be without fault."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=colours, has_touch=size == PHONE
    )
    context.add_init_script(_TELL_VIOLATIONS)
    dashboard = Dashboard(context.new_page(), origin)
    try:
        yield dashboard
        assert dashboard.complaints() == []
    except AssertionError as error:
        error.add_note(f"the browser complains of {dashboard.complaints()}")
        raise
    finally:
        context.close()
