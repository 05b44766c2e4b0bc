"""A pytest plugin for redis-py's suite: our class in the place of redis-py's, and how every test ended.

It runs in the suite's own environment and is told by a file (``KEYFERRY_SUITE``) what to do:

    outcomes   where to write how each test ended, a line of JSON each, as it ends
    left_out   what is not run, and why (left_out.toml)
    tests      the only tests to run; null is all
    phase      null: redis-py itself; else the phase of our class
    port       of the server that the suite was given; its port 6379 is taken to this one
    other      the URL of the other server: the target, or in phase `target` the source
    lock       a file that runs at the same time share: some tests must not run beside themselves
    flush      ports of servers that are emptied before each test
"""

from __future__ import annotations

import fcntl
import inspect
import json
import os
import socket
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

DEFAULT_PORT = 6379
ALONE = ("tests/test_asyncio/test_cwe_404.py",)
"""Files whose tests listen on a fixed port (5380)."""
LOCAL = ("localhost", b"localhost", "127.0.0.1", b"127.0.0.1")
FLUSH_TIMEOUT_S = 5.0
MANNERS = ("protocol", "legacy_responses", "decode_responses", "encoding", "encoding_errors")
"""What two servers of one client must have in common, so that replies have one shape."""

told: dict[str, Any] = json.loads(Path(os.environ["KEYFERRY_SUITE"]).read_text())


# Our class


def aimed(our_class: Any, plain: Any) -> type[Any]:
    """Our client as a class whose target and phase are the suite's servers and this run's phase.

    Args:
        our_class: keyferry's.
        plain: redis-py's, in whose place it goes.
    """
    other, phase = told["other"], told["phase"]

    def with_target(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("target", other)
        kwargs.setdefault("phase", phase)
        our_class.__init__(self, *args, **kwargs)

    def with_source(self: Any, *args: Any, **kwargs: Any) -> None:
        """What the suite asks for is the target here; the source is a server that it does not know of."""
        single = kwargs.pop("single_connection_client", False)
        asked = self.asked = plain(*args, **kwargs)
        known = asked.connection_pool.connection_kwargs
        source = plain.from_url(other, **{name: known[name] for name in MANNERS if name in known})
        kept = {name: kwargs[name] for name in ("event_dispatcher",) if name in kwargs}
        our_class.__init__(
            self, source=source, target=asked, phase=phase, single_connection_client=single, **kept
        )
        self.auto_close_connection_pool = asked.auto_close_connection_pool

    def close(self: Any) -> None:
        """Both ends are the application's own: it closes what redis-py's client would have closed, the target."""
        closes, self.auto_close_connection_pool = self.auto_close_connection_pool, False
        our_class.close(self)
        self.auto_close_connection_pool = self.asked.auto_close_connection_pool = closes
        self.asked.close()

    async def aclose(self: Any, close_connection_pool: bool | None = None) -> None:
        """The same."""
        await our_class.aclose(self, False)
        self.asked.auto_close_connection_pool = self.auto_close_connection_pool
        await self.asked.aclose(close_connection_pool)

    begin: Any = with_source if phase == "target" else with_target
    begin.__signature__ = inspect.signature(our_class.__init__)
    body = {
        "__init__": begin,
        "__module__": plain.__module__,
        "__doc__": plain.__doc__,
    }
    if phase == "target":
        body |= {"aclose": aclose} if hasattr(plain, "aclose") else {"close": close}
    return type("Redis", (our_class,), body)


def put_in_place() -> None:
    """Every name under which the suite may come by redis-py's class."""
    import keyferry.asyncio

    one = aimed(keyferry.Redis, redis.Redis)
    other = aimed(keyferry.asyncio.Redis, redis.asyncio.Redis)
    for module in (redis, redis.client):
        module.Redis = module.StrictRedis = one  # type: ignore[attr-defined]
    for module in (redis.asyncio, redis.asyncio.client):
        module.Redis = module.StrictRedis = other  # type: ignore[attr-defined]


# The suite's surroundings


def keep_off_the_default_port() -> None:
    """Tests that make a client without an address mean "the server": ours, not one of this machine's."""
    look_up = socket.getaddrinfo

    def redirected(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in LOCAL and port == DEFAULT_PORT:
            host, port = "127.0.0.1", told["port"]
        return look_up(host, port, *args, **kwargs)

    socket.getaddrinfo = redirected


def do_not_trace_memory() -> None:
    """The suite traces every allocation, and uses it for nothing; it takes half of the run."""
    tracemalloc.start = lambda *_: None


def flush(port: int) -> None:
    """Empties a server; one that a test has closed to strangers stays as it is."""
    try:
        with socket.create_connection(("127.0.0.1", port), FLUSH_TIMEOUT_S) as connection:
            connection.sendall(b"*1\r\n$8\r\nFLUSHALL\r\n")
            connection.recv(256)
    except OSError:
        pass


keep_off_the_default_port()
do_not_trace_memory()
if told["phase"] is not None:
    put_in_place()


# Which tests, and how they end


def why_left_out(item: pytest.Item) -> str | None:
    """The reason from the list, or None for a test that runs."""
    path = item.nodeid.split("::", 1)[0]
    for rule in told["left_out"]:
        if (
            any(
                path == file or (file.endswith("/") and path.startswith(file))
                for file in rule.get("files", ())
            )
            or any(item.get_closest_marker(mark) for mark in rule.get("marks", ()))
            or any(name in getattr(item, "fixturenames", ()) for name in rule.get("fixtures", ()))
            or any(item.nodeid.startswith(beginning) for beginning in rule.get("tests", ()))
        ):
            return str(rule["why"])
    return None


class Recorder:
    """Takes down how each test ended."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self.close = self._file.close
        self._reports: list[pytest.TestReport] = []

    def write(self, **line: object) -> None:
        """One line, at once: a run may break off."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        only = None if told["tests"] is None else set(told["tests"])
        reasons: Counter[str] = Counter()
        kept: list[pytest.Item] = []
        dropped: list[pytest.Item] = []
        for item in items:
            why = why_left_out(item)
            if why is not None:
                reasons[why] += 1
            (kept if why is None and (only is None or item.nodeid in only) else dropped).append(item)
        items[:] = kept
        config.hook.pytest_deselected(items=dropped)
        self.write(left_out=reasons)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """Runs that go on beside this one must not listen on the same port at the same time."""
        if item.nodeid.split("::", 1)[0] not in ALONE:
            return (yield)
        with Path(told["lock"]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return (yield)

    def pytest_runtest_logstart(self) -> None:
        for port in told["flush"]:
            flush(port)
        self._reports.clear()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        word, why = ended(self._reports)
        self.write(test=nodeid, word=word, why=why)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write(test=report.nodeid, word="failed", why=last_line(report))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.write(finished=int(exitstatus))


def ended(reports: list[pytest.TestReport]) -> tuple[str, str]:
    """The word for a test's set-up, call and tear-down together, and why it failed."""
    for report in reports:
        if report.failed and not hasattr(report, "wasxfail"):
            return "failed", f"{report.when}: {last_line(report)}"
    for report in reports:
        if hasattr(report, "wasxfail"):
            return ("xfailed" if report.skipped else "xpassed"), ""
        if report.skipped:
            return "skipped", ""
    return "passed", ""


def last_line(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What went wrong, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return next(iter(text.strip().splitlines()), "")[:300]


def pytest_configure(config: pytest.Config) -> None:
    recorder = Recorder(Path(told["outcomes"]))
    config.add_cleanup(recorder.close)
    config.pluginmanager.register(recorder, "keyferry-recorder")
