"""The Chromium of this machine, for the tests of the dashboard and for its picture. None is ever downloaded here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

VARIABLE = "KEYFERRY_CHROMIUM"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The program: the one that ``KEYFERRY_CHROMIUM`` names, else the first of ``PROGRAMS`` in PATH; None without one."""
    named = os.environ.get(VARIABLE)
    for program in [named] if named else PROGRAMS:
        found = shutil.which(program)
        if found is not None:
            return found
    return None


@contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """A headless one, while the block runs.

    Playwright's loop runs in this thread meanwhile: nothing else can ``asyncio.run`` in it.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()
