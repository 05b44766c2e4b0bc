"""Turns feeds and watchers as a poll loop does, for a bounded time."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from keyferry.capture.feed import Feed
from keyferry.capture.watcher import Seen, Watcher

WAIT_S = 10.0


def hear_until(
    feed: Feed, done: Callable[[], bool], wait_s: float = WAIT_S
) -> tuple[set[tuple[int | None, bytes]], bool]:
    """What the feed names until ``done()``, as (database, name), and whether it said that everything changed."""
    named: set[tuple[int | None, bytes]] = set()
    everything = False
    until_s = time.monotonic() + wait_s
    while not done():
        assert time.monotonic() < until_s, f"not in time; named so far: {sorted(named, key=repr)[:20]}"
        feed.turn(time.monotonic())
        poll = select.poll()
        poll.register(feed.fileno(), feed.events)
        if feed.buffered or poll.poll(20):
            heard = feed.receive(time.monotonic())
            everything |= heard.everything
            named.update((database, key) for database, keys in heard.keys for key in keys)
    return named, everything


def hear(feed: Feed, wait_s: float = WAIT_S) -> tuple[set[tuple[int | None, bytes]], bool]:
    """What was acknowledged to anybody before this call."""
    fence = feed.fence()
    return hear_until(feed, lambda: feed.passed(fence), wait_s)


def look(watcher: Watcher, wait_s: float = WAIT_S) -> Seen:
    """What a whole look sees that begins now."""
    request = watcher.request()
    until_s = time.monotonic() + wait_s
    while not watcher.answered(request):
        assert time.monotonic() < until_s, "the look did not end"
        turn(watcher)
    return watcher.take()


def turn(watcher: Watcher) -> None:
    watcher.turn(time.monotonic())
    poll = select.poll()
    poll.register(watcher.fileno(), watcher.events)
    if watcher.buffered or poll.poll(20):
        watcher.read(time.monotonic())
