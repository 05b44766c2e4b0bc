"""The blocking driver of a carry: one at a time over two sessions."""

from __future__ import annotations

from keyferry.payload.exchange import Carry, Outcome
from keyferry.wire.session import Session


def drive(carry: Carry, source: Session, target: Session) -> Outcome:
    """Runs ``carry`` to its end.

    Raises:
        ConnectionLost: One of the connections broke; the temporary key may be there still, and the next
            carry of the same key removes it.
        ProtocolError: A peer does not speak RESP.
    """
    sessions = {"source": source, "target": target}
    try:
        request = next(carry)
        while True:
            request = carry.send(sessions[request.side].pipeline(request.commands))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    finally:
        carry.close()
