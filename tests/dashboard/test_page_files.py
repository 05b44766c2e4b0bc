"""The page's files: they hold together, ask nobody else, and write numbers as the terminal does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from keyferry.model import words

STATIC = Path(str(files("keyferry.app.dashboard") / "static"))
MODULES = sorted(STATIC.glob("*.js"))
LINES_MAX = 320
NODE = shutil.which("node")


class Tags(HTMLParser):
    """Ids, and what is asked for, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.names: set[str] = set()
        self.asked: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.names.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name == "src" or (name == "href" and tag == "link"):
                self.asked.append(value or "")


@pytest.fixture(scope="module")
def page() -> Tags:
    return Tags((STATIC / "index.html").read_text())


def test_every_file_that_is_asked_for_is_there_and_ours(page: Tags) -> None:
    assert page.asked
    for address in page.asked:
        assert (STATIC / address.removeprefix("/static/")).is_file(), address
    for module in MODULES:
        for name in re.findall(r'^import .* from "(.*)";$', module.read_text(), re.MULTILINE):
            assert (STATIC / name).is_file(), f"{module.name}: {name}"
    for file in STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(^|\s)//.*", "", text), f"{file.name} names another place"


def test_every_element_that_is_looked_for_is_there_once(page: Tags) -> None:
    assert len(page.ids) == len(set(page.ids))
    for module in MODULES:
        for name in re.findall(r'byId\("([\w-]+)"\)', module.read_text()):
            assert name in page.ids, f"{module.name}: {name}"


def test_nothing_becomes_html_and_nothing_needs_a_weaker_policy(page: Tags) -> None:
    assert {"style", "onclick", "onload", "action"} & page.names == set()
    for module in MODULES:
        text = module.read_text()
        assert re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text) is None, (
            module
        )
        assert len(text.splitlines()) <= LINES_MAX, module


def told(tmp_path: Path, script: str) -> Any:
    """What a script on the page's modules gives, without a browser."""
    if NODE is None:
        pytest.skip("no node at hand: numbers are not compared")
    shutil.copytree(STATIC, tmp_path / "page")
    (tmp_path / "page" / "package.json").write_text('{"type": "module"}')
    main = tmp_path / "page" / "told.js"
    main.write_text(f"{script}\nconsole.log(JSON.stringify(told));\n")
    done = subprocess.run([NODE, str(main)], capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


SMALL = [0, 0.04, 0.4, 0.9996, 1, 9.94, 9.96, 12, 99.4, 100, 200, 999]
NUMBERS = {
    "count": [*SMALL, 15_123, 1_234_567],
    "size": [*SMALL, 15_123, 1_234_567, 24_100_000_000],
    "duration": [*SMALL, 3599, 3600, 9999, 172_000],  # beyond two days the page says days
    "moment": [*SMALL, 3600],
    "latency": SMALL,  # beyond, the page has a comma
}


def test_numbers_are_written_as_in_the_terminal(tmp_path: Path) -> None:
    script = f"""
        import * as words from "./words.js";
        const told = {{}};
        for (const [name, numbers] of Object.entries({json.dumps(NUMBERS)})) told[name] = numbers.map((one) => words[name](one));
    """
    known = {name: [getattr(words, name)(one) for one in numbers] for name, numbers in NUMBERS.items()}
    assert told(tmp_path, script) == known


def test_rows_stay_in_order_when_the_clock_was_set_back(tmp_path: Path) -> None:
    script = """
        import { Series } from "./series.js";
        const series = new Series();
        const add = (whole, ...times) => series.add({ every_s: 1, columns: ["at_ms"], rows: times.map((at) => [at]), whole });
        add(true, 1, 2, 9, 5, 6);
        add(false, 7, 8);
        const told = series.rows(null).map((row) => row.at_ms);
    """
    assert told(tmp_path, script) == [1, 2, 5, 6, 7, 8]


def test_how_fresh_a_look_is(tmp_path: Path) -> None:
    script = """
        import { stateOf } from "./live.js";
        const seen = { status: { age_seconds: 0.2 }, statusAt: 100000, heardAt: 100000, lostAt: 0, ended: null };
        const told = [
          stateOf({ ...seen, status: null, statusAt: 0, heardAt: 0 }, 100000),
          stateOf(seen, 101000),
          stateOf({ ...seen, heardAt: 112000 }, 112000),
          stateOf({ ...seen, status: { age_seconds: 11 } }, 100000),
          stateOf(seen, 116000),
          stateOf({ ...seen, lostAt: 100500 }, 101000),
          stateOf({ ...seen, lostAt: 100500, ended: { died: false } }, 101000),
          stateOf({ ...seen, ended: { died: true } }, 101000),
        ];
    """
    assert told(tmp_path, script) == ["connecting", "live", "old", "old", "lost", "lost", "ended", "died"]
