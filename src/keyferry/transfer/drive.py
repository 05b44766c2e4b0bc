"""The blocking driver of a carry: one at a time over two sessions."""

from __future__ import annotations

from keyferry.payload.exchange import Carry, Outcome, Replies, Request
from keyferry.wire.resp import Reply
from keyferry.wire.session import Session


def drive(carry: Carry, source: Session, target: Session) -> Outcome:
    """Runs ``carry`` to its end.

    Raises:
        ConnectionLost: One of the connections broke; the temporary key may be there still, and the next
            carry of the same key removes it.
        ProtocolError: A peer does not speak RESP.
    """
    try:
        request = next(carry)
        while True:
            request = carry.send(answer(request, source, target))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    finally:
        carry.close()


def answer(request: Request, source: Session, target: Session) -> Replies:
    """The replies to one request, one side after the other. Raises as ``drive``."""
    asked: list[Reply] | bytes = []
    if request.source:
        if request.raw:
            asked = source.exchange_raw(request.source)
        else:
            asked = source.exchange(request.source, request.source_replies)
    return Replies(asked, target.exchange(request.target, request.target_replies) if request.target else [])
