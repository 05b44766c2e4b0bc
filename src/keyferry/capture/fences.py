"""Fences on one connection, as PINGs that are numbered; pure.

After a fence every change that was acknowledged to anybody before it has been named. It takes two PINGs, the
second sent after the first's PONG: with I/O threads a reply may be written by one thread while another still
holds the turn's invalidations back (one PING missed 146 of 4,000 on Redis 8.2 with four threads, two none).

1. A client writes k; the server acknowledges it, the invalidation of k is still to be written.
2. We send PING 1. It may share k's turn of the event loop, and its PONG may come before k's name.
3. PING 2 is sent after that PONG, so it is read in a later turn, which begins when all of k's turn is queued.

Only one PING is under way at a time. So a fence that begins when n have been sent has passed when n + 2 have been
answered, however many fences there are, and nothing has to be kept of them.
"""

from __future__ import annotations


class Fences:
    """Which PING to send, and which fences have passed.

    Args:
        nonce: Unlike that of any other connection, so that a PONG from before a gap means nothing after it.
    """

    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce
        self._sent = self._answered = self._wanted = 0

    @property
    def waiting(self) -> bool:
        """Whether a PING is under way."""
        return self._sent > self._answered

    def begin(self) -> int:
        """Begins a fence; its number."""
        fence = self._sent + 2
        self._wanted = max(self._wanted, fence)
        return fence

    def passed(self, fence: int) -> bool:
        return self._answered >= fence

    def ping(self, idle: bool = False) -> bytes | None:
        """The text of the PING that is to be sent now; None: none.

        Args:
            idle: One is wanted in any case, to see whether the server is there.
        """
        if self.waiting or not (idle or self._sent < self._wanted):
            return None
        self._sent += 1
        return self._text()

    def pong(self, text: bytes) -> bool:
        """Takes the text of a PONG; False: nothing has asked for it."""
        if not self.waiting or text != self._text():
            return False
        self._answered += 1
        return True

    def refused(self) -> None:
        """The PING under way was answered with an error: it is as if it had not been sent.

        A fence that began after it waits for one PING more than it must.
        """
        self._sent -= 1

    def _text(self) -> bytes:
        return b"%b:%d" % (self._nonce, self._sent)
