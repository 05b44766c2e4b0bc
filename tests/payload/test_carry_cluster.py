"""A carry between nodes of a cluster whose slots move: refused with the server's code, nothing lost, repeatable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from carrying import BUILDERS, KEY, Ferry, done, names_of
from looking import identity

from keyferry.payload.carry import carry_in_pieces
from keyferry.payload.exchange import Carried, Outcome, Refused, Request
from keyferry.payload.names import slot
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

OLD = "what was there before"
SLOT = slot(KEY)
Clusters = Callable[..., Cluster]
Starter = Callable[..., Server]
Moment = Callable[[int, Request], bool]

SOURCE_MOMENTS: dict[str, Moment] = {
    "at once": lambda index, request: index == 0,
    "after a page": lambda index, request: index == 3,
    "before the last word": lambda index, request: b"EXEC" in names_of(request.source),
}
TARGET_MOMENTS: dict[str, Moment] = {
    "at once": lambda index, request: index == 0,
    "after a page": lambda index, request: index == 4,
    "when it looks at what was built": lambda index, request: b"EXISTS" in names_of(request.target)[1:],
    "before it publishes": lambda index, request: b"RENAME" in names_of(request.target),
}
KINDS = ["string", "hash", "zset", "stream"]


def ferry(source: Server, target: Server) -> Ferry:
    return Ferry(
        source.session(),
        target.session(side="target"),
        target.session(side="target"),
        identity(source),
        identity(target),
    )


def carried(ferry: Ferry, moment: Moment, happen: Callable[[], object], *, replace: bool = True) -> Outcome:
    """Carries in pieces; once, at that moment, something happens."""
    left = [happen]

    def before(index: int, request: Request) -> None:
        if left and moment(index, request):
            left.pop()()

    carry = carry_in_pieces(ferry.destination(replace=replace), ferry.source_identity)
    outcome = ferry.drive(carry, before=before)
    assert not left, "the moment never came"
    assert outcome is not None
    return outcome


def other_node(cluster: Cluster) -> int:
    return (cluster.nodes.index(cluster.owner_of(SLOT)) + 1) % len(cluster.nodes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", SOURCE_MOMENTS)
@pytest.mark.parametrize("finish", [True, False], ids=["moved", "half moved"])
def test_the_sources_slot_moves(
    server: Server, cluster: Clusters, moment: str, kind: str, finish: bool
) -> None:
    nodes = cluster(server.binary.name)
    with ExitStack() as stack:
        between = ferry(nodes.owner_of(SLOT), server)
        stack.callback(between.close)
        new = between.build(*BUILDERS[kind])
        done(between.target, ("SET", KEY, OLD))
        to = other_node(nodes)
        outcome = carried(
            between,
            SOURCE_MOMENTS[moment],
            lambda: nodes.move_slot(SLOT, to, keys_per_step=10, finish=finish),
        )
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.side) == ("MOVED" if finish else "ASK", "source")
        assert outcome.reason.startswith(f"{outcome.code} {SLOT} ")
        assert between.onlooker.call("GET", KEY) == OLD.encode()
        assert not between.left_over()
        if not finish:
            nodes.finish_slot(SLOT)
        again = ferry(nodes.owner_of(SLOT), server)
        stack.callback(again.close)
        assert isinstance(again.drive(carry_in_pieces(again.destination(), again.source_identity)), Carried)
        assert again.on_target() == new


def test_a_slot_that_went_and_came_back_is_read_again(server: Server, cluster: Clusters) -> None:
    """WATCH has seen the key go: it is no torn value."""
    nodes = cluster(server.binary.name)
    home, away = nodes.nodes.index(nodes.owner_of(SLOT)), other_node(nodes)
    between = ferry(nodes.owner_of(SLOT), server)
    new = between.build(*BUILDERS["zset"])

    def there_and_back() -> None:
        nodes.move_slot(SLOT, away)
        nodes.move_slot(SLOT, home)

    assert isinstance(carried(between, SOURCE_MOMENTS["after a page"], there_and_back), Carried)
    assert between.on_target() == new
    assert not between.left_over()
    between.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", TARGET_MOMENTS)
@pytest.mark.parametrize("finish", [True, False], ids=["moved", "half moved"])
def test_the_targets_slot_moves(
    server: Server, cluster: Clusters, moment: str, kind: str, finish: bool
) -> None:
    nodes = cluster(server.binary.name)
    with ExitStack() as stack:
        between = ferry(server, nodes.owner_of(SLOT))
        stack.callback(between.close)
        new = between.build(*BUILDERS[kind])
        done(between.target, ("SET", KEY, OLD))
        to = other_node(nodes)
        outcome = carried(
            between,
            TARGET_MOMENTS[moment],
            lambda: nodes.move_slot(SLOT, to, keys_per_step=10, finish=finish),
        )
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.side) == ("MOVED" if finish else "ASK", "target")
        if not finish:
            nodes.finish_slot(SLOT)
        again = ferry(server, nodes.owner_of(SLOT))
        stack.callback(again.close)
        assert again.onlooker.call("GET", KEY) == OLD.encode()
        assert isinstance(again.drive(carry_in_pieces(again.destination(), again.source_identity)), Carried)
        assert again.on_target() == new
        assert not again.left_over()


def test_one_name_here_and_one_elsewhere_is_to_be_tried_again(server: Server, cluster: Clusters) -> None:
    """RENAMENX in a slot that is opened: the temporary key is here, the key would be there."""
    nodes = cluster(server.binary.name)
    between = ferry(server, nodes.owner_of(SLOT))
    between.build(*BUILDERS["hash"])
    to = other_node(nodes)

    def moment(index: int, request: Request) -> bool:
        return b"RENAMENX" in names_of(request.target)

    outcome = carried(
        between, moment, lambda: nodes.move_slot(SLOT, to, keys_per_step=0, finish=False), replace=False
    )
    assert isinstance(outcome, Refused)
    # Redis 6.2 sends every command after a key that is not there.
    assert (outcome.code, outcome.side) == (
        "ASK" if identity(server).version < (7,) else "TRYAGAIN",
        "target",
    )
    assert between.onlooker.call("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 0
    between.close()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_slot_that_nobody_serves(server: Server, start_server: Starter, side: str) -> None:
    lame = start_server(server.binary.name, cluster_enabled="yes", cluster_require_full_coverage="no")
    between = ferry(lame, server) if side == "source" else ferry(server, lame)
    with lame.session() as operator:
        done(operator, ("CLUSTER", "ADDSLOTS", SLOT))
        while operator.call("SET", KEY, OLD) != b"OK":
            pass
        done(operator, ("DEL", KEY))
        between.build(*BUILDERS["set"])
        done(between.target, ("SET", KEY, OLD))
        moments = SOURCE_MOMENTS if side == "source" else TARGET_MOMENTS
        outcome = carried(
            between, moments["after a page"], lambda: done(operator, ("CLUSTER", "DELSLOTS", SLOT))
        )
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.side) == ("CLUSTERDOWN", side)
        done(operator, ("CLUSTER", "ADDSLOTS", SLOT))
        while operator.call("EXISTS", KEY) != 1:
            pass
    assert between.onlooker.call("GET", KEY) == OLD.encode()
    assert isinstance(between.drive(carry_in_pieces(between.destination(), between.source_identity)), Carried)
    assert not between.left_over()
    between.close()


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_wrong_node_is_no_vanished_key(server: Server, cluster: Clusters, side: str) -> None:
    nodes = cluster(server.binary.name)
    wrong = nodes.nodes[other_node(nodes)]
    between = ferry(wrong, server) if side == "source" else ferry(server, wrong)
    with nodes.owner_of(SLOT).session() as owner:
        done(owner, ("SET", KEY, OLD))
        if side == "source":
            done(between.target, ("SET", KEY, OLD))
        outcome = between.drive(carry_in_pieces(between.destination(), between.source_identity))
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.side) == ("MOVED", side)
        assert (between.onlooker if side == "source" else owner).call("GET", KEY) == OLD.encode()
    between.close()
