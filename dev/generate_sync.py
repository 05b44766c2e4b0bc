"""Writes the threads' form of the clients from the asyncio one: `make generate`.

`capture/clients/_async/*.py` is written by hand; every module there has a twin of the same name in `_sync`, which this
writes. Only `platform.py` is written twice by hand: it holds what really differs. Tests are written once as well:
`test_*_async.py` beside which `test_*_sync.py` stands. `--check` writes nothing and fails when a twin is not what it
would write.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import tokenize_rt
import unasync

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "src" / "keyferry" / "capture" / "clients"
TESTS = ROOT / "tests" / "capture" / "clients"
BY_HAND = {"platform.py", "__init__.py"}
NAMES = {
    "aclose": "close",
    "_async": "_sync",
    "aiter": "iter",
    "anext": "next",
    "tasks_async": "tasks_sync",
}


class DropAsync(unasync.Rule):  # type: ignore[misc]
    """`AsyncMembership` becomes `Membership`; the rest is as unasync has it."""

    def _unasync_name(self, name: str) -> str:
        if name in self.token_replacements:
            return str(self.token_replacements[name])
        if name.startswith("Async") and name[5:6].isupper():
            return name[5:]
        return name

    def convert(self, text: str) -> str:
        tokens = self._unasync_tokens(tokenize_rt.src_to_tokens(text))
        return str(tokenize_rt.tokens_to_src(tokens))


def formatted(text: str, name: str) -> str:
    """The text as `ruff` would leave it."""
    for command in (["check", "--fix-only", "--select", "I,F401,UP,RET,SIM"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", name, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout
    return text


def twins() -> Iterator[tuple[Path, str]]:
    """Each twin's path and the text that belongs there."""
    rule = DropAsync(fromdir="/_async/", todir="/_sync/", additional_replacements=NAMES)
    for path in sorted((CLIENTS / "_async").glob("*.py")):
        if path.name in BY_HAND:
            continue
        yield _twin(rule, path, f"_async/{path.name}", CLIENTS / "_sync" / path.name)
    for path in sorted(TESTS.glob("test_*_async.py")):
        yield _twin(rule, path, path.name, path.with_name(path.name.replace("_async.py", "_sync.py")))


def _twin(rule: DropAsync, path: Path, name: str, twin: Path) -> tuple[Path, str]:
    head = f"# Written by `make generate` from {name}: change that one.\n"
    text = re.sub(r"  # noqa: ASYNC.*", "", rule.convert(path.read_text()))
    return twin, formatted(head + text, str(twin))


def main() -> int:
    """Writes or checks every twin; 1 when a check found one that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a twin differs")
    check = parser.parse_args().check
    stale = 0
    wanted = set()
    for path, text in twins():
        wanted.add(path.name)
        if path.exists() and path.read_text() == text:
            continue
        if check:
            print(f"{path} is not what `make generate` writes")
            stale = 1
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.name}")
    for left in sorted([*(CLIENTS / "_sync").glob("*.py"), *TESTS.glob("test_*_sync.py")]):
        if left.name not in wanted | BY_HAND:
            print(f"{left} has no asyncio form")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
