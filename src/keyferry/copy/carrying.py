"""Drives carries: values that are built on the target with commands of their own type, whole or in pieces."""

from __future__ import annotations

from collections.abc import Callable, Generator

from keyferry.copy.carriers import Carrier
from keyferry.copy.errands import SOURCE, Errands, replies_of
from keyferry.copy.later import Later
from keyferry.copy.pace import Pace
from keyferry.payload.exchange import Replies, Request, Result

PIECE_PAUSE_S = 0.005
"""Between two looks whether the next piece may be asked for."""
OPEN_BACKLOG_BYTES_MAX = 2 << 20
"""Of a long command that the target has not taken yet."""

Send = Callable[[Request, Callable[[Replies], None]], None]


def drive(carry: Generator[Request, Replies, Result], send: Send, ended: Callable[[Result], None]) -> None:
    """Asks and answers until the carry says how it ended."""

    def step(replies: Replies | None) -> None:
        try:
            request = next(carry) if replies is None else carry.send(replies)
        except StopIteration as end:
            ended(end.value)
        else:
            send(request, step)

    step(None)


def over(errands: Errands, lane: int, holding_bytes: int = 0) -> Send:
    """Sends over connections that others use as well. Args: holding_bytes: of the value that waits meanwhile."""

    def send(request: Request, then: Callable[[Replies], None]) -> None:
        answers: dict[int, bytes] = {}
        expected = bool(request.source_replies) + bool(request.target_replies)

        def answered(lane_or_source: int, data: bytes) -> None:
            answers[lane_or_source] = data
            if len(answers) == expected:
                source, target = answers.get(SOURCE, b""), answers.get(lane, b"")
                then(Replies(source if request.raw else replies_of(source), replies_of(target)))

        if request.source_replies:
            errands.send(SOURCE, request.source, request.source_replies, lambda data: answered(SOURCE, data))
        if request.target_replies:
            size = holding_bytes + len(request.target)
            errands.send(
                lane, request.target, request.target_replies, lambda data: answered(lane, data), size
            )
        if not expected:
            then(Replies([], []))

    return send


def over_carrier(carrier: Carrier, lane: int, pace: Pace, later: Later) -> Send:
    """Sends over connections of the carry's own, at the pace that the servers allow."""
    plain = over(carrier.errands, lane)

    def send(request: Request, then: Callable[[Replies], None]) -> None:
        if carrier.backlog_bytes(lane) > OPEN_BACKLOG_BYTES_MAX or not pace.allows_piece(later.now_s):
            later.put(PIECE_PAUSE_S, lambda: send(request, then))
            return

        def came(replies: Replies) -> None:
            # Of an open command that goes on without its source (zeros) the bytes that were sent count.
            size = len(replies.source) if isinstance(replies.source, bytes) else 0
            if size or request.target_open:
                pace.spend_piece(size or len(request.target))
            then(replies)

        if request.target_open:
            carrier.send_open(lane, request.target)
            plain(
                Request(source=request.source, source_replies=request.source_replies, raw=request.raw), came
            )
        else:
            carrier.end_open()
            plain(request, came)

    return send
