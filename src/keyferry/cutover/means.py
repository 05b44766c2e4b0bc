"""What a switch is given to work with, and how it says that it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyferry.copy.replies import ServerBusy
from keyferry.cutover.plan import End, Step
from keyferry.follow.run import FollowRun
from keyferry.model.errors import InterruptedRun, KeyferryError, ServerError


class NotYet(KeyferryError):
    """A step could not be done: what the switch is put off or undone for."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a switch works with besides its tools.

    Attributes:
        run: Follows the losing side.
        make_reverse: Makes the run of the opposite direction, not attached yet; ``drop_reverse`` ends it.
        gate_s: Longest wait of the application.
        after: The steps after the gate that are done elsewhere: BAR_AFTER and HOOK.
        check_lead: Raises when another process leads this migration now.
        poll: Called now and then while something is waited for.
        check_stop: The same where nothing more can be done; ends the switch where it stands by raising.
    """

    run: FollowRun
    make_reverse: Callable[[], FollowRun]
    drop_reverse: Callable[[], None]
    gate_s: float
    after: Callable[[Step], None]
    tell: Callable[[str], None]
    check_lead: Callable[[], None]
    poll: Callable[[], None]
    check_stop: Callable[[], None]


@dataclass(slots=True)
class Performed:
    """How a switch went.

    Attributes:
        reverse: The run of the opposite direction, attached; after DONE only.
        steps: With seconds.
        gate_s: From the first held write to the mark of the new authority; None when nobody waited.
        failure: Why it was undone, or not begun.
        compared: Keys that were compared under the gate.
        left: What could not be undone, as a sentence; the next start tries it again.
        trouble: What the run that follows has to hear of: it is to be stopped, or to meet its servers anew.
    """

    end: End
    reverse: FollowRun | None
    steps: list[tuple[str, float]]
    gate_s: float | None
    failure: str = ""
    hint: str = ""
    compared: int = 0
    left: str = ""
    trouble: InterruptedRun | ServerError | ServerBusy | None = None
