"""What the other side of a dual phase gets for a command that succeeded on the authority.

Servers have the same task when they replicate: a member popped at random, an id that the clock gave, an expiry
counted from now, a condition that held here need not be the same there. They send on what happened, not what was
asked; so do we (the table of rules follows what they send). What the arguments and the reply do not tell is not
guessed: its keys are reported, to be settled.

None of this makes the two sides equal by itself: it keeps the other side warm. Two writers may reach the sides in
opposite order, and the copy may not have been there yet; the feeds and the settling see to that.
"""

from __future__ import annotations

from typing import Any

from keyferry.model import (
    rewriting_hashes,
    rewriting_keys,
    rewriting_pops,
    rewriting_streams,
    rewriting_strings,
)
from keyferry.model.command_treatments import Treatment
from keyferry.model.commands import CommandInfo, Replies, keys_of
from keyferry.model.key_positions import Args
from keyferry.model.lock_scripts import lock_second_leg
from keyferry.model.second import NOTHING, UNTOLD, Rule, Second

RULES: dict[str, Rule] = {
    **rewriting_strings.RULES,
    **rewriting_keys.RULES,
    **rewriting_pops.RULES,
    **rewriting_hashes.RULES,
    **rewriting_streams.RULES,
}
"""By name, one for each command of treatment REWRITE."""

# Looked up for every write of an application: an attribute of an enumeration costs as much as the rest.
_MIRROR, _REWRITE = Treatment.MIRROR, Treatment.REWRITE
_VARIES = Replies.VARIES
_ANYTHING = (UNTOLD,)
_UNFORESEEN = (IndexError, ValueError, TypeError, AttributeError, KeyError, OverflowError)
"""What a rule raises when a reply, or an option of a newer server, has a shape that it does not know: a second leg
never breaks the application."""


def second_leg(
    info: CommandInfo,
    args: Args,
    reply: Any,
    *,
    now_ms: int,
    absolute_expiry: bool = True,
    mirror_scripts: bool = False,
) -> Second:
    """What the mirror side gets, and which keys are settled instead.

    Args:
        info: What ``look_up`` said of ``args``.
        args: The command as redis-py was given it, name first.
        reply: What the server answered before redis-py's callbacks: of RESP2 or RESP3, strings as bytes or, when
            the connection decodes, str. Never an error: a command that failed has no second leg.
        now_ms: Unix time from which a relative expiry counts, by the clock of the authority as well as we know it.
        absolute_expiry: False for a mirror side before 6.2, whose SET knows no PXAT.
        mirror_scripts: Scripts and functions are repeated as they are.
    """
    treatment = info.treatment
    if treatment is _MIRROR:
        return Second((args,), (), False, _ANYTHING if info.replies is _VARIES else (reply,))
    try:
        if treatment is _REWRITE:
            return RULES[info.name](args, reply, now_ms, absolute_expiry)
        if treatment is Treatment.REPORT:
            return _reported(info, args, reply, now_ms, mirror_scripts)
    except _UNFORESEEN:
        return _all_reported(info, args)
    if treatment is Treatment.BOTH:
        return Second((args,), (), False, _ANYTHING)
    return NOTHING


def _reported(info: CommandInfo, args: Args, reply: Any, now_ms: int, mirror_scripts: bool) -> Second:
    if info.name in {"EVAL", "EVALSHA"}:
        known = lock_second_leg(args, reply, now_ms)
        if known is not None:
            return known
    if mirror_scripts and info.scripted:
        return Second((args,), (), False, _ANYTHING)
    return _all_reported(info, args)


def _all_reported(info: CommandInfo, args: Args) -> Second:
    keys = keys_of(info, args)
    return Second(reported=keys, everything_unknown=not keys)
