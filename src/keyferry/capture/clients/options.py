"""What can be set at a client, beside redis-py's own arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from keyferry.model.phases import Phase


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The settings of a dual-writing client.

    Attributes:
        phase: a phase fixed in code; None with `migration`, or for a plain client.
        migration: the name of the migration whose shared record names the phase.
        mirror: "inline": a call returns when both legs are done; "background": when the first is done, and the
            second waits in a bounded queue.
        mirror_queue_max: second legs that may wait in the background; beyond, their keys are reported.
        mirror_scripts: scripts and functions are mirrored as they are, for those who know that theirs repeat.
        target_timeout_ms: how long a second leg may take, connecting included.
        on_target_error: "report" (the keys go to the ledger, the application sees nothing) or "raise".
        ledger: "after": keys are reported after something went wrong; "ahead": every write is entered before its
            first leg, for servers without any feed; "off": never, for data of which it does not matter.
        ledger_name: under which name a client with a fixed phase reports.
        ledger_keys_max: keys that may wait for being reported, and may stand in the ledger; beyond: "everything".
        shadow_share: which share of reads is repeated on the other side in the phase `shadow`, 0 to 1.
        hold_timeout_ms: how long an operation waits while a cutover's gate is closed.
        lease_ms: how long a writer may go on without having heard from the record.
    """

    phase: Phase | None = None
    migration: str | None = None
    mirror: Literal["inline", "background"] = "inline"
    mirror_queue_max: int = 10_000
    mirror_scripts: bool = False
    target_timeout_ms: int = 1_000
    on_target_error: Literal["report", "raise"] = "report"
    ledger: Literal["after", "ahead", "off"] = "after"
    ledger_name: str = "default"
    ledger_keys_max: int = 100_000
    shadow_share: float = 0.01
    hold_timeout_ms: int = 30_000
    lease_ms: int = 10_000

    @property
    def name(self) -> str:
        """The name that stands in our keys on the servers."""
        return self.migration or self.ledger_name


_NAMES = frozenset(field.name for field in fields(ClientOptions))
OURS = _NAMES | {"source", "target"}
"""Every argument that is ours and not redis-py's."""
_CHOICES = {
    "mirror": ("inline", "background"),
    "on_target_error": ("report", "raise"),
    "ledger": ("after", "ahead", "off"),
}
_POSITIVE = ("mirror_queue_max", "target_timeout_ms", "ledger_keys_max", "hold_timeout_ms", "lease_ms")


def take_options(arguments: dict[str, Any]) -> ClientOptions | None:
    """Takes our settings out of keyword arguments; None when there is none of them.

    Raises:
        ValueError: a setting that makes no sense, in one sentence.
    """
    ours = {name: arguments.pop(name) for name in _NAMES & arguments.keys()}
    if not ours:
        return None
    if ours.get("phase") is not None:
        try:
            ours["phase"] = Phase(ours["phase"])
        except ValueError:
            raise ValueError(f"phase must be one of {', '.join(Phase)}; got {ours['phase']!r}") from None
        if ours.get("migration") is not None:
            raise ValueError(
                "give either phase= (fixed in code) or migration= (follows the shared record), not both"
            )
        if ours["phase"] is Phase.HOLD:
            raise ValueError(
                "a client cannot be fixed in the phase 'hold': only the shared record leads out of it"
            )
    for name, choices in _CHOICES.items():
        if ours.get(name, choices[0]) not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}; got {ours[name]!r}")
    for name in _POSITIVE:
        if ours.get(name, 1) <= 0:
            raise ValueError(f"{name} must be above 0; got {ours[name]!r}")
    if not 0 <= ours.get("shadow_share", 0) <= 1:
        raise ValueError(f"shadow_share must be between 0 and 1; got {ours['shadow_share']!r}")
    return ClientOptions(**ours)


def signature(redis_pys: Callable[..., Any]) -> inspect.Signature:
    """redis-py's own parameters and ours, for `help()`, editors and whoever looks at what a client takes.

    Args:
        redis_pys: the constructor of redis-py's class.
    """
    known = inspect.signature(redis_pys)
    ends = dict.fromkeys(("source", "target"))
    ours = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in {
            **ends,
            **{field.name: field.default for field in fields(ClientOptions)},
        }.items()
    ]
    theirs = list(known.parameters.values())
    rest = theirs.pop() if theirs[-1].kind is inspect.Parameter.VAR_KEYWORD else None
    return known.replace(parameters=[*theirs, *ours, *([rest] if rest else [])])
