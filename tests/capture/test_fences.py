"""A fence takes two PINGs that were sent one after the other, and nothing that was asked before it counts."""

from __future__ import annotations

from keyferry.capture.fences import Fences


def test_a_fence_passes_with_the_second_pong() -> None:
    fences = Fences(b"n")
    assert fences.ping() is None
    fence = fences.begin()
    first = fences.ping()
    assert first is not None
    assert fences.ping() is None  # the second only after the first's PONG
    assert fences.pong(first)
    assert not fences.passed(fence)
    second = fences.ping()
    assert second is not None
    assert second != first
    assert fences.pong(second)
    assert fences.passed(fence)
    assert fences.ping() is None


def test_a_ping_from_before_the_fence_does_not_count() -> None:
    fences = Fences(b"n")
    early = fences.ping(idle=True)
    assert early is not None
    fence = fences.begin()
    assert fences.pong(early)
    for _ in range(2):
        assert not fences.passed(fence)
        text = fences.ping()
        assert text is not None
        assert fences.pong(text)
    assert fences.passed(fence)


def test_a_fence_in_the_middle_of_another_takes_two_pings_of_its_own() -> None:
    fences = Fences(b"n")
    first = fences.begin()
    text = fences.ping()
    second = fences.begin()
    sent = 1
    while text is not None:
        assert fences.pong(text)
        assert fences.passed(first) == (sent >= 2)
        assert fences.passed(second) == (sent >= 3)
        text = fences.ping()
        sent += text is not None
    assert sent == 3
    assert fences.passed(second)


def test_pongs_of_nobody() -> None:
    fences = Fences(b"n")
    assert not fences.pong(b"n:1")
    text = fences.ping(idle=True)
    assert text is not None
    assert not fences.pong(b"other:1")
    assert fences.pong(text)
    assert not fences.pong(text)


def test_a_ping_that_was_refused_is_sent_again() -> None:
    fences = Fences(b"n")
    fence = fences.begin()
    assert fences.ping() is not None
    later = fences.begin()
    fences.refused()
    sent = 0
    while not fences.passed(later):
        text = fences.ping()
        assert text is not None
        assert fences.pong(text)
        sent += 1
    assert sent == 3
    assert fences.passed(fence)


def test_two_connections_never_use_the_same_texts() -> None:
    assert Fences(b"a").ping(idle=True) != Fences(b"b").ping(idle=True)
