"""Every line of Python on docs/clients.md runs, and says what it is said to say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from keyferry.capture.clients.counts import Counts, Reason
from keyferry.capture.clients.options import OURS, ClientOptions
from keyferry.testing.servers import Server

PAGE = Path(__file__).parents[3] / "docs" / "clients.md"
COMMANDS = ("pip ", "keyferry ")
TIMEOUT_S = 60


def blocks() -> list[str]:
    """The page's Python, block by block."""
    found = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    texts = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]
    return [text for text in texts if not text.startswith(COMMANDS)]


def program(source: Server, target: Server) -> str:
    """All blocks as one program; after each one that makes a client, that client is tried."""
    parts = []
    for number, block in enumerate(blocks()):
        text = block
        for name, server in (("old", source), ("new", target)):
            text = text.replace(f"redis://{name}:6379", server.url)
            text = text.replace(f'host="{name}", port=6379', f'host="127.0.0.1", port={server.port}')
        if "await " in text:
            lines = [f"    {line}" for line in text.splitlines()]
            text = "\n".join(["async def main():", *lines, "import asyncio", "asyncio.run(main())"])
        elif "r = " in text:
            text += f'\nprint("{number}", r.set("probe:{number}", "{number}"), r.migration.phase)'
        parts.append(text)
    return "\n".join(parts)


def test_every_snippet_runs(flushed: Callable[..., Server]) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for phase in ("source", "dual"):
        command = ["-m", "keyferry", "phase", "set", "orders", f"{source.url}/0", f"{target.url}/0", phase]
        run(*command)
    text = program(source, target)
    ast.parse(text)
    said = run("-c", text)
    tried = [line.split() for line in said.splitlines()]
    assert len(tried) >= 8
    assert {result for _, result, _ in tried} == {"True"}
    assert {phase for _, _, phase in tried} == {"dual", "shadow"}
    with source.session() as old, target.session() as new:
        for server in (old, new):
            for number, _, _ in tried:
                assert server.call("GET", f"probe:{number}") == number.encode()
            assert server.call("GET", "greeting") == b"hello"
            assert server.call("GET", "visits") == b"1"
            assert server.call("GET", "order:1") == b"paid"


def run(*arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
    ended = subprocess.run(
        [sys.executable, *arguments],
        env=kept,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stdout


def rows(heading: str) -> dict[str, str]:
    """First column, without its marks -> second column, of the first table after a text."""
    after = PAGE.read_text(encoding="utf-8").partition(heading)[2]
    table = after[after.index("|---") :].partition("\n\n")[0]
    cells = [line.split(" | ") for line in table.splitlines()[1:]]
    return {name.strip("| `"): second.strip() for name, second, *_ in cells}


def test_every_argument_is_there_with_its_default() -> None:
    said = rows("## Arguments")
    assert said.keys() == OURS
    for field in fields(ClientOptions):
        if field.default is not None:
            written = f"{field.default:,}" if type(field.default) is int else f"{field.default!r}"
            assert said[field.name].strip("`").replace('"', "'") == written


def test_every_reason_and_count_is_there() -> None:
    assert rows("The reasons are").keys() == set(Reason)
    page = PAGE.read_text(encoding="utf-8")
    for name in {field.name for field in fields(Counts)} - {
        "shadow_reads",
        "shadow_differences",
        "unknown_commands",
    }:
        assert f"counts.{name}" in page


def test_every_error_is_what_it_is_said_to_be() -> None:
    import redis

    from keyferry.capture.clients import errors, record_errors

    for names, said in rows("## Errors").items():
        for name in re.findall(r"\w+Error", names.replace("redis.WatchError", "")):
            error = getattr(errors, name, None) or getattr(record_errors, name)
            assert issubclass(error, getattr(redis, said.strip("`").removeprefix("redis.")))
