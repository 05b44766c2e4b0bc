"""Random commands through the drop-in and to a lone server: the same replies; after settling both sides are equal.

In every phase that is fixed in code, and with steps of the shared record in the middle. ``KEYFERRY_ATTACK_EXAMPLES`` and
``KEYFERRY_ATTACK_STEPS`` make it longer, ``KEYFERRY_ATTACK_SERVERS=redis-8.2,valkey-9.1`` runs it on others, with
``KEYFERRY_ATTACK_SHRINKS`` what it finds is made small, which takes minutes.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attack_commands import FIRST, PAYLOAD, RARE, Command, commands
from attack_drivers import Driver, Outcome, alike, lone, ours, repeated
from attack_settling import client_of, copy_all, differences, settle
from attack_steps import Steps
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Part
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keyferry.model.phases import RULES, Phase, Side
from keyferry.testing.servers import Server

EXAMPLES = int(os.environ.get("KEYFERRY_ATTACK_EXAMPLES", "8"))
STEPS = int(os.environ.get("KEYFERRY_ATTACK_STEPS", "25"))
SERVERS = os.environ.get("KEYFERRY_ATTACK_SERVERS", "redis-7.0").split(",")
PHASES = [Phase.SOURCE, Phase.DUAL, Phase.SHADOW, Phase.TARGET_DUAL, Phase.TARGET]
UNLIKE = ("pending", "consumers", "last-id", "entries-added", "max-deleted-id", "entries-read")
"""Of a lone server: when something was delivered there is its own affair, and so is the id that was only tried."""


class Machine(RuleBasedStateMachine):
    """One application with two servers, beside the same application with one."""

    source: Server
    target: Server
    alone: Server
    payload: bytes
    flavour = "threads"
    phases: Sequence[Phase] = PHASES

    def __init__(self) -> None:
        super().__init__()
        for server in (self.source, self.target, self.alone):
            with client_of(server) as client:
                client.flushall()
        self.driver: Driver
        self.lone: Driver
        self.steps: Steps | None = None
        self.name = ""

    @initialize(
        data=st.data(),
        mirror=st.sampled_from(["inline", "background"]),
        ledger=st.sampled_from(["after", "after", "ahead"]),
        decodes=st.booleans(),
        protocol=st.sampled_from([2, 3]),
    )
    def begin(self, data: Any, mirror: str, ledger: str, decodes: bool, protocol: int) -> None:
        self.name = f"m{uuid.uuid4().hex[:8]}"
        plain = {"decode_responses": decodes, "protocol": protocol}
        self.binary = not decodes
        given: dict[str, Any] = {**plain, "mirror": mirror, "ledger": ledger, "shadow_share": 0.5}
        given |= self.phase_settings(data)
        self.driver = ours(self.flavour, self.source.url, self.target.url, **given)
        self.lone = lone(self.flavour, self.alone.url, **plain)
        for command in FIRST:
            self.compare_command(command)

    def phase_settings(self, data: Any) -> dict[str, Any]:
        self.phase = data.draw(st.sampled_from(self.phases), label="phase")
        return {"phase": str(self.phase), "ledger_name": self.name}

    # What the application does

    @rule(data=st.data(), count=st.integers(3, 12))
    def commands(self, data: Any, count: int) -> None:
        for _ in range(count):
            self.compare_command(self.drawn(data))

    @rule(command=RARE, wanted=st.integers(0, 30))
    def everything(self, command: Command, wanted: int) -> None:
        if wanted != 7:
            return
        if self.steps is not None:
            return  # the record is a key like others to these
        self.compare_command(command)

    @rule(data=st.data(), transaction=st.booleans(), raises=st.booleans(), size=st.integers(1, 6))
    def pipeline(self, data: Any, transaction: bool, raises: bool, size: int) -> None:
        stack = [self.drawn(data, blocks=False) for _ in range(size)]
        if any(command[0] in ("SPOP", "XADD") for command in stack):
            raises = False
        mine = self.driver.pipeline(stack, transaction=transaction, raises=raises)
        again = stack
        if mine.error is None:
            again = [repeated(*pair) for pair in zip(stack, mine.value, strict=True)]
        theirs = self.lone.pipeline(again, transaction=transaction, raises=raises)
        self.judge_all(stack, mine, theirs)

    @rule(data=st.data(), size=st.integers(1, 4), meddles=st.booleans())
    def transaction(self, data: Any, size: int, meddles: bool) -> None:
        drawn = [self.drawn(data, blocks=False) for _ in range(size)]
        stack = [command for command in drawn if command[0] not in ("SPOP", "XADD")]
        mine = self.driver.transaction("s:1", lambda: self.meddle(self.authority) if meddles else None, stack)
        theirs = self.lone.transaction("s:1", lambda: self.meddle(self.alone) if meddles else None, stack)
        if mine.error is not None or theirs.error is not None or not stack:
            assert mine == theirs, (stack, mine, theirs)
            return
        assert mine.value[0] == theirs.value[0]
        self.judge_all(stack, Outcome(mine.value[1]), Outcome(theirs.value[1]))

    # How it is judged

    @property
    def authority(self) -> Server:
        side = RULES[self.phase].authority
        return self.source if side is Side.SOURCE else self.target

    @property
    def mirror(self) -> Server:
        return self.target if self.authority is self.source else self.source

    def drawn(self, data: Any, *, blocks: bool = True) -> Command:
        command = data.draw(commands(binary=self.binary), label="command")
        if not blocks and isinstance(command[0], str) and command[0].startswith("B") and command[-1] == 0.01:
            command = ("PING",)
        return tuple(self.payload if part is PAYLOAD else part for part in command)

    def meddle(self, server: Server) -> None:
        """Somebody else changes the watched key; on the mirror side it is as if the feed had told of it."""
        with client_of(server) as client:
            client.set("s:1", "somebody else's")
        if server is self.authority and RULES[self.phase].mirrors:
            self.driver.flush()
            with client_of(self.mirror) as client:
                client.set("s:1", "somebody else's")

    def compare_command(self, command: Command) -> None:
        mine = self.driver.command(command)
        theirs = self.lone.command(repeated(command, mine.value))
        if mine.error is not None or theirs.error is not None:
            assert mine == theirs, (command, mine, theirs)
            return
        assert alike(command, mine.value, theirs.value), (command, mine, theirs)

    def judge_all(self, stack: Sequence[Command], mine: Outcome, theirs: Outcome) -> None:
        if mine.error is not None or theirs.error is not None:
            assert mine == theirs, (stack, mine, theirs)
            return
        assert len(mine.value) == len(theirs.value) == len(stack)
        for command, one, other in zip(stack, mine.value, theirs.value, strict=True):
            assert alike(command, one, other), (command, one, other, stack)

    def settle(self) -> None:
        """After this the mirror side holds what the authority holds."""
        self.driver.flush()
        settle(self.authority, self.mirror, self.name)
        found = differences(self.authority, self.mirror)
        assert not found, found

    def teardown(self) -> None:
        if not self.name:
            return
        try:
            if RULES[self.phase].mirrors:
                self.settle()
            else:
                with client_of(self.mirror) as client:
                    left = [key for key in client.keys("*") if not key.startswith(b"keyferry:")]
                    assert self.steps is not None or not left, left
            found = differences(self.authority, self.alone, ignore=UNLIKE)
            assert not found, found
        finally:
            self.driver.close()
            self.lone.close()
            if self.steps is not None:
                self.steps.close()


class Stepping(Machine):
    """The same with a shared record that moves on."""

    def phase_settings(self, data: Any) -> dict[str, Any]:
        self.phase = Phase.SOURCE
        self.steps = Steps(self.name, self.source, self.target)
        return {"migration": self.name, "lease_ms": 60_000}

    @precondition(lambda self: self.name)
    @rule(data=st.data())
    def step(self, data: Any) -> None:
        """To a neighbour; what the mirror side has not got yet is carried over, as a sync would."""
        assert self.steps is not None
        ways = {
            Phase.SOURCE: [Phase.DUAL],
            Phase.DUAL: [Phase.SHADOW, Phase.TARGET_DUAL, Phase.SOURCE, Phase.TARGET_DUAL],
            Phase.SHADOW: [Phase.DUAL, Phase.TARGET_DUAL],
            Phase.TARGET_DUAL: [Phase.DUAL, Phase.TARGET, Phase.DUAL],
            Phase.TARGET: [Phase.TARGET_DUAL],
        }
        after = data.draw(st.sampled_from(ways[self.phase]), label="next phase")
        commits = RULES[after].authority is not RULES[self.phase].authority
        if commits:
            self.steps.hold(self.driver.wait)
            self.settle()
            self.steps.commit(after, self.driver.wait)
        else:
            self.steps.step(after, self.driver.wait)
        begins = RULES[after].mirrors and not RULES[self.phase].mirrors
        self.phase = after
        if begins:
            copy_all(self.authority, self.mirror)


@pytest.fixture(params=SERVERS)
def three(request: pytest.FixtureRequest, flushed: Callable[..., Server]) -> tuple[Server, Server, Server]:
    return tuple(flushed(request.param, instance) for instance in range(3))  # type: ignore[return-value]


def attack(machine: type[Machine], three: tuple[Server, Server, Server], **more: Any) -> None:
    """Runs it on these servers."""
    source, target, alone = three
    with client_of(alone) as client:
        client.set("x", "of a payload")
        payload = client.dump("x")
    on = {"source": source, "target": target, "alone": alone, "payload": payload, **more}
    run_state_machine_as_test(
        type("On", (machine,), on),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="KEYFERRY_ATTACK_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            phases=[Part.generate, Part.shrink]
            if "KEYFERRY_ATTACK_SHRINKS" in os.environ
            else [Part.generate],
            print_blob=True,
        ),
    )


@pytest.mark.parametrize("flavour", ["threads", "tasks"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_application_sees_a_lone_server_and_both_become_equal(
    phase: Phase, flavour: str, three: tuple[Server, Server, Server]
) -> None:
    attack(Machine, three, phases=[phase], flavour=flavour)


@pytest.mark.parametrize("flavour", ["threads", "tasks"])
def test_the_same_with_steps_of_the_phase_in_the_middle(
    flavour: str, three: tuple[Server, Server, Server]
) -> None:
    attack(Stepping, three, flavour=flavour)
