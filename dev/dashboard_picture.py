"""``python -m dev.dashboard_picture [FILE]``: the README's picture of the dashboard, taken of a `keyferry demo` that runs.

The demo is looked at as anybody looks at it: its dashboard is opened in Chromium, and the picture is taken when the
cutover, the rollback and the second cutover are in the charts.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import expect

from dev.chromium import browsing, chromium

FILE = Path("docs/images/dashboard.png")
WIDTH_PX, HEIGHT_PX = 1280, 1024
MARGIN_PX = 6
"""Below the charts, where the picture ends."""
BYTES_MAX = 200_000
"""More than a README should load."""
KEYS = 300_000
WITHIN_S = 180.0
SWITCHES = 3
_PLACE = re.compile(r"(http://127\.0\.0\.1:\d+/) and the token for what acts in (\S+)\.\n")


def main() -> int:
    """See the module; 1 when there is no Chromium, or the picture is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--dark", action="store_true", help="as whoever prefers dark sees it")
    given = parser.parse_args()
    program = chromium()
    if program is None:
        print("No Chromium is at hand.", file=sys.stderr)
        return 1
    file: Path = given.file.absolute()
    with tempfile.TemporaryDirectory(prefix="keyferry-picture-") as directory:
        said = Path(directory) / "said"
        command = [sys.executable, "-m", "keyferry", "demo", "--keys", str(given.keys), "--http", "0"]
        with said.open("wb") as out:
            demo = subprocess.Popen(command, cwd=directory, stdout=out, stderr=subprocess.STDOUT)
        try:
            take(program, _place(demo, said), file, "dark" if given.dark else "light")
            demo.wait(WITHIN_S)
        finally:
            demo.terminate()
            demo.wait()
    size = file.stat().st_size
    print(f"{file}: {size:,} bytes")
    return int(size > BYTES_MAX)


def take(program: str, place: str, file: Path, colours: str) -> None:
    """Waits for the last switch, and for what it changes in the charts."""
    within_ms = WITHIN_S * 1000
    with browsing(program) as browser:
        page = browser.new_page(
            viewport={"width": WIDTH_PX, "height": HEIGHT_PX},
            color_scheme="dark" if colours == "dark" else "light",
        )
        page.goto(place)
        expect(page.locator("#switches tr:has([data-mark=good])")).to_have_count(SWITCHES, timeout=within_ms)
        expect(page.locator("#stations [aria-current=step]")).to_contain_text("back", timeout=within_ms)
        # Two rows more, so that the last switch is not at the charts' very edge.
        page.wait_for_timeout(2_000)
        charts = page.locator("#charts").bounding_box()
        assert charts is not None
        height = charts["y"] + charts["height"] + MARGIN_PX
        page.screenshot(path=file, clip={"x": 0, "y": 0, "width": WIDTH_PX, "height": height})


def _place(demo: subprocess.Popen[bytes], said: Path) -> str:
    """Where the demo says that its dashboard is, with its token."""
    until_s = time.monotonic() + WITHIN_S
    while time.monotonic() < until_s and demo.poll() is None:
        if found := _PLACE.search(said.read_text()):
            return f"{found[1]}#token={Path(found[2]).read_text().strip()}"
        time.sleep(0.1)
    raise SystemExit(f"The demo does not say where its dashboard is:\n{said.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
