"""Keys that the relay could not pass through: converted, carried logically, in conflict, gone, refused.

Every key that comes in here ends with exactly one ``relay.resolve`` or a RESTORE that the target accepts, or ends
the pipeline with an exception.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from keyferry.copy.bigkeys import BigKeyActions, BigKeys
from keyferry.copy.carriers import Carrier, Carriers
from keyferry.copy.carrying import drive, over, over_carrier
from keyferry.copy.errands import Errands, parsed, replies_of
from keyferry.copy.identify import time_ms
from keyferry.copy.later import Later
from keyferry.copy.pace import Pace
from keyferry.copy.redirects import Redirects, with_asking, without_asking
from keyferry.copy.replies import ServerBusy, Verdict, stopping_error, verdict
from keyferry.copy.rules import Rules
from keyferry.copy.settled import Failure
from keyferry.copy.under_way import KeysUnderWay
from keyferry.model.errors import Side
from keyferry.model.methods import Method
from keyferry.model.selection import TYPES
from keyferry.payload.carry import carry_in_pieces, carry_value
from keyferry.payload.equal import payloads_equal
from keyferry.payload.errors import PayloadError, PayloadRefused
from keyferry.payload.exchange import (
    Carried,
    Carry,
    Conflict,
    Destination,
    Outcome,
    Refused,
    Vanished,
)
from keyferry.payload.footer import resign
from keyferry.payload.names import temporary_name
from keyferry.payload.plan import PayloadPlan
from keyferry.payload.reader import decode
from keyferry.transfer.config import DOUBT_MS, Aside, AsideKind
from keyferry.transfer.config import Outcome as KeyOutcome
from keyferry.transfer.relay import Relay
from keyferry.transfer.requests import moved, restore
from keyferry.wire.resp import Argument, Reply, ReplyError, encode_command, error_words

EVICTION_HINT = "eviction_hint"
CHANGED_MEANWHILE = "changed_meanwhile"
"""The target holds another value under a key that it did not hold when the copy began."""
REDIRECTING = frozenset(("MOVED", "ASK", "TRYAGAIN"))
DOUBT_TRIES = 5
AGAIN_BYTES = 64 << 10
"""What a key that is dumped once more is taken for; how big it was is forgotten."""
EXPIRY_SLACK_MS = 1
"""Two absolute expiries that came through a measured clock offset may differ by its rounding."""


class SlowPath:
    """Decides about asides; asks and writes through the relay's own connections."""

    def __init__(
        self,
        relay: Relay,
        errands: Errands,
        redirects: Redirects,
        carriers: Carriers,
        under_way: KeysUnderWay,
        later: Later,
        pace: Pace,
        rules: Rules,
    ) -> None:
        self._relay = relay
        self._errands = errands
        self._redirects = redirects
        self._under_way = under_way
        self._later = later
        self._pace = pace
        self._rules = rules
        self._big = BigKeys(
            errands,
            carriers,
            under_way,
            rules.big_keys,
            rules.types,
            BigKeyActions(
                dump=lambda aside, size_bytes: relay.again(aside.page, aside.index, size_bytes),
                carry=self._carry_in_pieces,
                gone=self._vanished,
                unselected=self._unselected,
                elsewhere=lambda aside: relay.resolve(aside.page, KeyOutcome.UNSELECTED),
                refused=lambda aside, message: self._refused(aside, "source", message),
                fail=self._fail,
                hand_over=rules.on_big,
                met=rules.on_big_met,
            ),
        )
        self._failures: dict[int, list[Failure]] = {}
        self._notes: dict[int, Counter[str]] = {}

    def take(self, aside: Aside) -> None:
        """Decides about one key.

        Raises:
            ServerBusy: A server asks us to wait.
            ServerError: A server refuses for good.
        """
        match aside.kind:
            case AsideKind.DOUBT:
                self._ask_expiry(aside, DOUBT_TRIES)
            case AsideKind.CONVERT if self._rules.comparing:
                self._compare(aside)
            case AsideKind.CONVERT:
                self._convert(aside, replace=-1)
            case AsideKind.BIG:
                self._big.look(aside._replace(payload=b""), int(aside.payload))
            case AsideKind.OVERSIZE:
                self._big.look(aside, None)
            case AsideKind.VANISHED:
                self._vanished(aside)
            case AsideKind.SOURCE_ERROR:
                self._refused(aside, "source", error_words(aside.payload))
            case AsideKind.TARGET_ERROR:
                self._refused(aside, "target", error_words(aside.payload))

    def turn(self, now_s: float) -> None:
        """Goes on with keys that had to wait."""
        self._later.turn(now_s)

    def take_page(self, page: int) -> tuple[list[Failure], Counter[str]]:
        """What is known of a settled page: its failures, and what was not carried."""
        self._redirects.forget(page)
        return self._failures.pop(page, []), self._notes.pop(page, Counter())

    def _ask_expiry(self, aside: Aside, tries: int) -> None:
        """Asks PTTL between two TIMEs until they agree on the millisecond, or takes the last word."""

        def then(replies: list[Reply]) -> None:
            before_ms, remaining_ms, after_ms = time_ms(replies[0]), replies[1], time_ms(replies[2])
            if not isinstance(remaining_ms, int) or before_ms is None or after_ms is None:
                failed = next(
                    (reply.message for reply in replies if isinstance(reply, ReplyError)), "no time"
                )
                self._refused(aside, "source", failed)
            elif remaining_ms == -2:
                self._vanished(aside)
            elif remaining_ms >= 0 and after_ms - before_ms > DOUBT_MS and tries > 1:
                self._ask_expiry(aside, tries - 1)
            else:
                expires_at_ms = 0
                if remaining_ms >= 0:
                    expires_at_ms = max(1, int(after_ms) + remaining_ms + self._rules.clock_offset_ms)
                self.take(aside._replace(kind=AsideKind.CONVERT, expires_at_ms=expires_at_ms))

        commands: list[tuple[Argument, ...]] = [("TIME",), ("PTTL", aside.key), ("TIME",)]
        self._errands.ask_source(commands, then, holding_bytes=len(aside.payload))

    # Ways of carrying

    def _convert(self, aside: Aside, replace: int) -> None:
        plan = self._rules.plan
        kind = aside.payload[0]
        action = plan.actions[kind]
        try:
            if self._rules.on_stream and plan.type_name(kind) == "stream":
                self._rules.on_stream(aside.key)
            if not self._type_is_wanted(aside.payload):
                self._unselected(aside)
            elif action == Method.IMPOSSIBLE:
                self._fail(aside, plan.reason(kind))
            elif action == Method.LOGICAL:
                self._carry_whole(
                    aside,
                    carry_value(decode(aside.payload, plan.source.family), self._destination(aside, replace)),
                )
            elif action == Method.TRANSCODED:
                converted = plan.convert(aside.payload)
                self._note(aside, converted.notes)
                self._store(aside, converted.payload, converted.method, replace)
            else:
                payload = (
                    aside.payload if action == Method.RESTORE else resign(aside.payload, plan.target_version)
                )
                self._store(aside, payload, Method(action), replace)
        except (PayloadError, PayloadRefused) as error:
            self._fail(aside, str(error))

    def _store(self, aside: Aside, payload: bytes, method: Method, replace: int) -> None:
        if len(payload) > self._rules.target_bulk_bytes_max:
            self._big.look(aside._replace(payload=b""), None)
            return
        lane = self._redirects.asking(aside)
        if lane is None:
            self._relay.store(
                aside.page, aside.index, aside.expires_at_ms, payload, method, aside.hint, replace
            )
            return
        config = self._relay.config
        command = restore(
            config,
            aside.key,
            aside.expires_at_ms,
            payload,
            replace=config.replace if replace < 0 else bool(replace),
            hint=aside.hint,
            # Cluster nodes take absolute expiries: they are newer than the servers that do not.
        )

        def then(data: bytes) -> None:
            reply = replies_of(data)[1]
            if isinstance(reply, ReplyError):
                self._refused(aside, "target", reply.message)
            else:
                self._relay.resolve(aside.page, KeyOutcome.COPIED, len(payload), method)

        self._errands.send(lane, encode_command("ASKING") + command, 2, then, len(payload))

    def _type_is_wanted(self, payload: bytes) -> bool:
        types = self._rules.types
        name = self._rules.plan.type_name(payload[0])
        if not types or name in types:
            return True
        return name == "module" and self._rules.plan.module_name(payload) in types

    def _destination(self, aside: Aside, replace: int) -> Destination:
        rules = self._rules
        return Destination(
            key=aside.key,
            expires_at_ms=aside.expires_at_ms or None,
            replace=rules.on_conflict == "replace" if replace < 0 else bool(replace),
            target=rules.plan.target,
            drop_field_expiry=rules.drop_field_expiry,
            proto_max_bulk_bytes=rules.target_bulk_bytes_max,
            owner=rules.owner,
        )

    def _carry_in_pieces(self, aside: Aside, carrier: Carrier) -> None:
        rules = self._rules
        ours = rules.comparing and not rules.is_foreign(aside.key)
        carry = carry_in_pieces(
            self._destination(aside, replace=1 if ours else -1),
            rules.plan.source,
            clock_offset_ms=rules.clock_offset_ms,
            may_hold_target=True,
        )

        def ended(outcome: Outcome) -> None:
            self._ended(aside, outcome, in_pieces=True)
            self._big.carried(aside.key, carrier)

        lane = carrier.lane(self._redirects.place_of(aside.key))
        drive(carry, over_carrier(carrier, lane, self._pace, self._later), ended)

    def _carry_whole(self, aside: Aside, carry: Carry) -> None:
        if not self._under_way.begin(aside.key):
            self._under_way.later(lambda: self._carry_whole(aside, carry))
            return

        def ended(outcome: Outcome) -> None:
            self._under_way.end(aside.key)
            self._ended(aside, outcome, in_pieces=False)

        lane = self._relay.lane_of(aside.key)
        drive(carry, over(self._errands, lane, len(aside.payload)), ended)

    def _ended(self, aside: Aside, outcome: Outcome, *, in_pieces: bool) -> None:
        match outcome:
            case Carried(size, notes):
                self._note(aside, (*notes, EVICTION_HINT) if aside.hint >= 0 else notes)
                self._relay.resolve(aside.page, KeyOutcome.COPIED, size, Method.LOGICAL)
            case Refused(reason, code, side):
                spoken = verdict(code) is not Verdict.KEY or code in REDIRECTING
                message = f"{code} {reason}" if spoken and not reason.startswith(code) else reason
                self._refused(aside, side, message, carried=True, in_pieces=in_pieces)
            case Vanished():
                self._relay.resolve(aside.page, KeyOutcome.VANISHED)
            case Conflict() if in_pieces and not self._rules.is_foreign(aside.key):
                # Comparing would take a DUMP of a giant on both sides.
                self._note(aside, (CHANGED_MEANWHILE,))
                self._relay.resolve(aside.page, KeyOutcome.SKIPPED)
            case Conflict():
                self._conflict(aside)

    # Comparing with what the target holds

    def _compare(self, aside: Aside) -> None:
        target = self._rules.plan.target
        absolute = target.version >= (7, 0, 0)

        def then(replies: list[Reply]) -> None:
            theirs, expires = replies
            error = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
            if error is not None:
                self._refused(aside, "target", error.message)
                return
            if not isinstance(theirs, bytes):
                self._convert(aside, replace=-1)
                return
            if _same_expiry(expires, aside.expires_at_ms, absolute) and self._same_value(
                aside.payload, theirs
            ):
                self._relay.resolve(
                    aside.page, KeyOutcome.COPIED, len(aside.payload), self._method_of(aside.payload)
                )
            elif self._rules.on_conflict != "replace" and self._rules.is_foreign(aside.key):
                self._conflict(aside)
            else:
                # Not there before this copy began: an earlier run wrote it, and the source has changed since.
                self._convert(aside, replace=1)

        commands = [("DUMP", aside.key), ("PEXPIRETIME" if absolute else "PTTL", aside.key)]
        self._ask_target(aside, commands, then)

    def _same_value(self, ours: bytes, theirs: bytes) -> bool:
        plan = self._rules.plan
        try:
            return payloads_equal(ours, plan.source.family, theirs, plan.target.family)
        except PayloadError:
            return False

    def _method_of(self, payload: bytes) -> int:
        return min(self._rules.plan.actions[payload[0]], Method.LOGICAL)

    # Ends

    def _unselected(self, aside: Aside) -> None:
        """On the target a selected type may have been under this name: to whoever follows, that is gone."""
        if self._rules.follows:
            self._vanished(aside)
        else:
            self._relay.resolve(aside.page, KeyOutcome.UNSELECTED)

    def _vanished(self, aside: Aside) -> None:
        if not self._rules.delete_vanished or (self._rules.keeps and self._rules.keeps(aside.key)):
            self._relay.resolve(aside.page, KeyOutcome.VANISHED)
        elif self._rules.types:
            self._ask_target(
                aside, [("TYPE", aside.key)], lambda replies: self._vanished_type(aside, replies[0])
            )
        else:
            self._delete(aside)

    def _vanished_type(self, aside: Aside, kind: Reply) -> None:
        """What the key was on the source, nobody can tell any more: the target's key goes if it is selected."""
        if isinstance(kind, ReplyError):
            self._refused(aside, "target", kind.message)
        elif isinstance(kind, bytes) and kind.decode("ascii", "replace") in self._rules.types:
            self._delete(aside)
        else:
            self._relay.resolve(aside.page, KeyOutcome.VANISHED)

    def _delete(self, aside: Aside) -> None:
        def then(replies: list[Reply]) -> None:
            if isinstance(replies[0], ReplyError):
                self._refused(aside, "target", replies[0].message)
            else:
                self._relay.resolve(aside.page, KeyOutcome.VANISHED)

        self._ask_target(aside, [("UNLINK", aside.key)], then)

    def _ask_target(
        self, aside: Aside, commands: Sequence[tuple[Argument, ...]], then: Callable[[list[Reply]], None]
    ) -> None:
        """Asks the node that has the key, or is taking it over."""
        lane = self._redirects.asking(aside)
        if lane is None:
            self._errands.ask_target(aside.key, commands, then, holding_bytes=len(aside.payload))
        else:
            asking = parsed(lambda replies: then(without_asking(replies)))
            self._errands.send(
                lane, with_asking(list(commands)), 2 * len(commands), asking, len(aside.payload)
            )

    def _fetch_again(self, aside: Aside) -> None:
        """After a redirection. Through the flow, which bounds how much is dumped at once; alone where ASK wants it."""
        if self._redirects.asking(aside) is None:
            self._relay.again(aside.page, aside.index, AGAIN_BYTES)
        else:
            self._fetch_anew(aside)

    def _fetch_anew(self, aside: Aside) -> None:
        """The key as it is on the source now, with its expiry, as if it had come aside to be converted."""
        absolute = self._rules.plan.source.version >= (7, 0, 0)
        expiry: list[tuple[Argument, ...]] = [("PEXPIRETIME" if absolute else "PTTL", aside.key)]

        def then(replies: list[Reply]) -> None:
            payload, expires = replies
            error = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
            if error is not None:
                self._refused(aside, "source", error.message)
            elif not isinstance(payload, bytes) or not isinstance(expires, int) or expires == -2:
                self._vanished(aside)
            elif expires >= 0 and not absolute:
                self._ask_expiry(aside._replace(payload=payload), DOUBT_TRIES)
            else:
                expires_at_ms = moved(expires, self._rules.clock_offset_ms) if expires >= 0 else 0
                self.take(
                    aside._replace(kind=AsideKind.CONVERT, payload=payload, expires_at_ms=expires_at_ms)
                )

        self._errands.ask_source([("DUMP", aside.key), *expiry], then)

    def _refused(
        self,
        aside: Aside,
        side: Side,
        message: str,
        *,
        carried: bool = False,
        in_pieces: bool = False,
    ) -> None:
        """``carried``: by commands of the value's type, ``in_pieces`` or whole."""
        if side == "source":
            if self._redirects.from_source(aside, message):
                return
        else:
            bare = aside._replace(payload=b"")
            anew = (lambda: self._big.look(bare, None)) if in_pieces else (lambda: self._fetch_again(bare))
            again = (lambda: self._remove_half(bare, anew)) if carried else anew
            if self._redirects.from_target(aside, message, again, whole=not carried):
                return
        match verdict(message):
            case Verdict.WAIT:
                raise ServerBusy(side, message)
            case Verdict.STOP:
                raise stopping_error(side, message)
            case Verdict.BUSY:
                self._conflict(aside)
            case Verdict.KEY if aside.page < 0:
                raise stopping_error(side, message)
            case Verdict.KEY:
                self._fail(aside, _explained(message, side))

    def _remove_half(self, aside: Aside, then: Callable[[], None]) -> None:
        """Removes what a carry had built, which has moved with the slot: the key may not be carried once more."""

        def removed(replies: list[Reply]) -> None:
            error = replies[0]
            if isinstance(error, ReplyError) and self._redirects.from_target(
                aside, error.message, lambda: self._remove_half(aside, then), whole=True
            ):
                return
            then()

        self._ask_target(aside, [("UNLINK", temporary_name(aside.key, self._rules.owner))], removed)

    def _conflict(self, aside: Aside) -> None:
        """The target has the key.

        What this copy wrote itself (SCAN returned it twice, or an earlier run did) is no conflict: the values are
        equal. Where they are not, the source has changed since, or somebody else wrote to the target: not for us to
        overwrite under this policy, so the key is left alone, and counted as that.
        """
        if not self._rules.is_foreign(aside.key):
            self._settle_ours(aside)
        elif self._rules.on_conflict == "fail":
            self._fail(aside, "The target has this key already (--on-conflict fail).")
        else:
            self._relay.resolve(aside.page, KeyOutcome.SKIPPED)

    def _settle_ours(self, aside: Aside) -> None:
        def look(theirs: Reply, ours: Reply) -> None:
            if isinstance(theirs, ReplyError):
                self._refused(aside, "target", theirs.message)
            elif isinstance(ours, ReplyError):
                self._refused(aside, "source", ours.message)
            elif isinstance(ours, bytes) and isinstance(theirs, bytes) and self._same_value(ours, theirs):
                self._relay.resolve(aside.page, KeyOutcome.COPIED, len(ours), self._method_of(ours))
            else:
                self._note(aside, (CHANGED_MEANWHILE,))
                self._relay.resolve(aside.page, KeyOutcome.SKIPPED)

        def ask_source(replies: list[Reply]) -> None:
            theirs = replies[0]
            size = len(theirs) if isinstance(theirs, bytes) else 0
            self._errands.ask_source(
                [("DUMP", aside.key)], lambda ours: look(theirs, ours[0]), holding_bytes=size
            )

        self._ask_target(aside, [("DUMP", aside.key)], ask_source)

    def _fail(self, aside: Aside, reason: str) -> None:
        self._failures.setdefault(aside.page, []).append(Failure(aside.key, self._rules.database, reason))
        self._relay.resolve(aside.page, KeyOutcome.FAILED)

    def _note(self, aside: Aside, notes: tuple[str, ...]) -> None:
        if notes:
            self._notes.setdefault(aside.page, Counter()).update(notes)


def wanted_types(plan: PayloadPlan, types: tuple[str, ...]) -> bytes:
    """256 flags by type byte for ``RelayConfig.wanted``; a module's own type name is looked at key by key."""
    if not types:
        return b"\x01" * 256
    modules = any(name not in TYPES for name in types)
    return bytes(
        plan.type_name(kind) in types or (modules and plan.type_name(kind) == "module") for kind in range(256)
    )


def _same_expiry(reply: Reply, expires_at_ms: int, absolute: bool) -> bool:
    if not isinstance(reply, int):
        return False
    if reply < 0 or not expires_at_ms:
        return reply < 0 and not expires_at_ms
    # Without PEXPIRETIME on the target an expiry is written again rather than judged by a clock.
    return absolute and abs(reply - expires_at_ms) <= EXPIRY_SLACK_MS


def _explained(message: str, side: Side) -> str:
    if "invalid bulk length" in message or "string exceeds maximum allowed size" in message:
        return f"The {side} refused it: {message}. Raise proto-max-bulk-len there."
    return f"The {side} refused it: {message}."
