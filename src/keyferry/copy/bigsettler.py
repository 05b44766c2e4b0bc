"""Keys too big for one DUMP that change while the target is kept equal: settled by difference, else carried in pieces.

On the connections of the carriers, so that nobody waits for a giant. A key is taken from its supply when a carrier is
free; how often that may be is the supply's affair.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from keyferry.copy.carriers import Carrier, Carriers
from keyferry.copy.carrying import Send, drive, over_carrier
from keyferry.copy.later import Later
from keyferry.copy.pace import Pace
from keyferry.copy.redirects import Redirects
from keyferry.copy.replies import ServerBusy, Verdict, stopping_error, verdict
from keyferry.copy.rules import Rules
from keyferry.copy.supply import BigEnd, BigSupply, BigTask
from keyferry.copy.under_way import KeysUnderWay
from keyferry.payload.carry import carry_in_pieces
from keyferry.payload.differ import compare_in_pieces
from keyferry.payload.differ_found import Applied, NotByDifference, Same, TooDifferent, Torn
from keyferry.payload.exchange import TORN, Carried, Destination, Refused, Vanished
from keyferry.wire.resp import Reply


class BigSettler:
    """Of one pipeline."""

    def __init__(
        self,
        supply: BigSupply,
        carriers: Carriers,
        redirects: Redirects,
        later: Later,
        pace: Pace,
        rules: Rules,
        under_way: KeysUnderWay,
    ) -> None:
        self._supply, self._carriers, self._redirects = supply, carriers, redirects
        self._later, self._pace, self._rules = later, pace, rules
        self._under_way = under_way

    def turn(self, now_s: float) -> None:
        """Begins what can be begun.

        Raises:
            ServerAway: A server that is dialled cannot be reached.
            ServerBusy, ServerError: As a server's refusal means it.
        """
        while self._supply.has_big(now_s):
            carrier = self._carriers.take()
            task = self._supply.take_big(now_s) if carrier else None
            if carrier is None:
                return
            if task is None:
                self._carriers.give_back(carrier)
                return
            if not self._under_way.begin(task.key):
                # Another pipeline builds it: its slot has moved.
                self._end(task, carrier, BigEnd(settled=False, torn=True), now_s, began=False)
            elif self._rules.types:
                self._look_at_type(task, carrier, now_s)
            else:
                self._by_difference(task, carrier, now_s)

    def _look_at_type(self, task: BigTask, carrier: Carrier, began_s: float) -> None:
        """What was of a wanted type may be of another one now; the ordinary way knows what that means."""

        def typed(replies: list[Reply]) -> None:
            kind = replies[0]
            if isinstance(kind, bytes) and kind.decode("ascii", "replace") in self._rules.types:
                self._by_difference(task, carrier, began_s)
            else:
                self._leave(task, carrier)
                self._supply.give_back(task.key)

        carrier.errands.ask_source([("TYPE", task.key)], typed)

    def _by_difference(self, task: BigTask, carrier: Carrier, began_s: float) -> None:
        rules = self._rules
        steps = compare_in_pieces(
            self._destination(task.key),
            rules.plan.source,
            apply=True,
            fuzzy=task.fuzzy,
            clock_offset_ms=rules.clock_offset_ms,
        )
        drive(steps, self._over(task.key, carrier), functools.partial(self._differed, task, carrier, began_s))

    def _differed(self, task: BigTask, carrier: Carrier, began_s: float, outcome: object) -> None:
        match outcome:
            case TooDifferent() | NotByDifference():
                self._whole(task, carrier, began_s)
            case Applied():
                self._end(task, carrier, BigEnd(settled=True, size_bytes=outcome.bytes), began_s)
            case Same():
                self._end(task, carrier, BigEnd(settled=True, same=True), began_s)
            case Torn():
                self._end(task, carrier, BigEnd(settled=False, torn=True), began_s)
            case _:
                self._ended(task, carrier, began_s, outcome)

    def _whole(self, task: BigTask, carrier: Carrier, began_s: float) -> None:
        rules = self._rules
        steps = carry_in_pieces(
            self._destination(task.key),
            rules.plan.source,
            clock_offset_ms=rules.clock_offset_ms,
            may_hold_target=True,
        )
        drive(steps, self._over(task.key, carrier), functools.partial(self._ended, task, carrier, began_s))

    def _ended(self, task: BigTask, carrier: Carrier, began_s: float, outcome: object) -> None:
        match outcome:
            case Carried(size):
                end = BigEnd(settled=True, size_bytes=size)
            case Vanished():
                end = BigEnd(settled=True, gone=True)
            case Refused(code=code) if code == TORN:
                end = BigEnd(settled=False, torn=True)
            case Refused():
                found = self._refused(task.key, outcome)
                if found is None:
                    self._leave(task, carrier)
                    self._supply.forget_big(task.key)
                    return
                end = found
            case _:
                raise AssertionError(f"a carry that replaces ended with {outcome!r}")
        self._end(task, carrier, end, began_s)

    def _refused(self, key: bytes, refused: Refused) -> BigEnd | None:
        """None: the source has sent the key elsewhere."""
        words = refused.reason
        message = words if words.startswith(refused.code) else f"{refused.code} {words}"
        if self._redirects.learn(key, refused.side, message):
            elsewhere = refused.side == "source" and not message.startswith("TRYAGAIN")
            return None if elsewhere else BigEnd(settled=False, torn=True)
        match verdict(message):
            case Verdict.WAIT:
                raise ServerBusy(refused.side, message)
            case Verdict.STOP:
                raise stopping_error(refused.side, message)
        return BigEnd(settled=False, refused=refused)

    def _end(
        self, task: BigTask, carrier: Carrier, end: BigEnd, began_s: float, *, began: bool = True
    ) -> None:
        now_s = self._later.now_s
        if began:
            self._under_way.end(task.key)
        self._carriers.give_back(carrier)
        self._supply.ended_big(task.key, replace(end, seconds=now_s - began_s), now_s)

    def _leave(self, task: BigTask, carrier: Carrier) -> None:
        self._under_way.end(task.key)
        self._carriers.give_back(carrier)

    def _over(self, key: bytes, carrier: Carrier) -> Send:
        return over_carrier(carrier, carrier.lane(self._redirects.place_of(key)), self._pace, self._later)

    def _destination(self, key: bytes) -> Destination:
        rules = self._rules
        return Destination(
            key=key,
            expires_at_ms=None,
            replace=True,
            target=rules.plan.target,
            drop_field_expiry=rules.drop_field_expiry,
            proto_max_bulk_bytes=rules.target_bulk_bytes_max,
            owner=rules.owner,
        )
