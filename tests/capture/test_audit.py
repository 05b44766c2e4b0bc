"""What an audit says of an application: by its rules, and on real servers under a writer of every kind of command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from keyferry.capture.audit import AuditReport, CommandUse, Way, calls_between, uses
from keyferry.capture.audit_run import AuditProgress, AuditSettings, run_audit
from keyferry.capture.audit_sample import Sample
from keyferry.capture.counters import Counters
from keyferry.capture.monitor import Heard
from keyferry.capture.tap import TapLimits
from keyferry.model.errors import ExitCode, ServerError
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Client, Deployment
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, ReplyError

CALM = TapLimits(seconds=1.0, rise_ms=0)
"""The machine of a test is never calm."""

TRAFFIC: list[tuple[Argument, ...]] = [
    ("SET", "{t}a", "1"),
    ("GET", "{t}a"),
    ("MSET", "{t}a", "1", "{t}b", "2"),
    ("SADD", "{t}s", "x", "y"),
    ("SPOP", "{t}s"),
    ("INCRBYFLOAT", "{t}f", "0.1"),
    ("XADD", "{t}x", "MAXLEN", "~", "10", "*", "a", "1"),
    ("EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "{t}a"),
    ("EXPIRE", "{t}a", 1000),
]
WAYS = {
    "SET": Way.REWRITTEN,
    "GET": Way.SAFE,
    "MSET": Way.SAFE,
    "SADD": Way.SAFE,
    "SPOP": Way.REWRITTEN,
    "INCRBYFLOAT": Way.REWRITTEN,
    "XADD": Way.REWRITTEN,
    "EVAL": Way.REPORTED,
    "EXPIRE": Way.REWRITTEN,
}


class Never:
    requested = False


@contextmanager
def writing(client: Client, commands: list[tuple[Argument, ...]]) -> Iterator[list[int]]:
    """Sends the commands over and over; how often all were sent."""
    rounds, end = [0], threading.Event()

    def write() -> None:
        while not end.is_set():
            for reply in client.pipeline(commands):
                assert not isinstance(reply, ReplyError), reply
            rounds[0] += 1
            end.wait(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield rounds
    finally:
        end.set()
        thread.join()


def audited(deployment: Deployment, settings: AuditSettings) -> AuditReport:
    nodes = [server.endpoint for server in deployment.primaries]
    return run_audit(nodes, settings, observe=lambda _: None, stop=Never())


def by_name(report: AuditReport) -> dict[str, CommandUse]:
    return {use.name: use for use in report.uses}


def test_the_counters_of_a_server(server: Server) -> None:
    with server.session() as session, writing(session, TRAFFIC) as rounds:
        while rounds[0] < 3:
            time.sleep(0.01)
        first = rounds[0]
        report = audited(server, AuditSettings(seconds=1.0))
        last = rounds[0] + 1
    found = by_name(report)
    assert {name: found[name].way for name in WAYS} == WAYS
    assert {found[name].sampled for name in WAYS} == {None}
    for name in WAYS.keys() - {"SET"}:
        assert 0 < found[name].calls <= last - first + 1
        assert found[name].calls_total >= first
    assert found["SET"].calls > found["GET"].calls, "the script's SET is counted too"
    assert found["INFO"].calls == 0, "our own calls are not the application's"
    assert found["MSET"].many_keys
    assert not found["SPOP"].many_keys
    assert (report.exit_code, report.databases) == (ExitCode.DONE, (0,))
    assert [use.way for use in report.uses] == sorted(
        (use.way for use in report.uses), key=list(Way).index, reverse=True
    )


def test_every_primary_of_a_cluster_with_monitor(cluster: Callable[..., Cluster], server: Server) -> None:
    source = cluster(server.binary.name)
    tags = [
        next(f"{{{n}}}" for n in range(1000) if source.owner_of(f"{{{n}}}") is node)
        for node in source.primaries
    ]
    commands = [
        tuple(part.replace("{t}", tag) if isinstance(part, str) else part for part in command)
        for tag in tags
        for command in TRAFFIC
    ]
    settings = AuditSettings(seconds=1.5, tap=CALM, target_cluster=True, show_keys=True)
    with source.session() as client, writing(client, commands):
        report = audited(source, settings)
    found = by_name(report)
    assert report.servers == len(tags)
    assert {name: found[name].way for name in WAYS} == WAYS
    assert all(0 < (found[name].sampled or 0) <= found[name].calls for name in WAYS.keys() - {"SET"})
    assert all(found[name].crossing == 0 for name in WAYS)
    assert all(key.startswith(b"{") for key in found["SPOP"].keys)
    assert found["SPOP"].keys
    assert found["PING"].calls == found["INFO"].calls == 0, "our own calls are not the application's"
    assert report.sample is not None
    assert report.sample.lines > 0
    assert not report.sample.stopped
    assert report.exit_code is ExitCode.DONE
    assert any("may name keys of several slots" in one.sentence for one in report.advice)


def test_what_a_cluster_would_refuse_has_to_be_changed(flushed: Callable[..., Server]) -> None:
    server = flushed("redis-7.0")
    commands: list[tuple[Argument, ...]] = [
        ("MSET", "a", "1", "b", "2"),
        ("MULTI",),
        ("SET", "a", "1"),
        ("SET", "b", "1"),
        ("EXEC",),
        ("SELECT", 3),
        ("SET", "c", "1"),
        ("SELECT", 0),
        ("MOVE", "nothing", 3),
    ]
    with server.session() as session, writing(session, commands):
        cluster = audited(server, AuditSettings(seconds=1.0, tap=CALM, target_cluster=True))
        single = audited(server, AuditSettings(seconds=0.5, tap=CALM, target_cluster=False))
        counted = audited(server, AuditSettings(seconds=2.0, target_cluster=True))
    found = by_name(cluster)
    assert found["MSET"].crossing == found["MSET"].sampled != 0
    assert found["MSET"].keys == (), "only when asked for"
    assert found["MOVE"].way is Way.REFUSED
    must = [one.sentence for one in cluster.advice if one.must]
    assert len(must) == 4
    parts = ("no MOVE", "databases 0, 3", "MSET named", "transactions")
    assert all(any(part in one for one in must) for part in parts)
    assert cluster.exit_code is ExitCode.REFUSED
    assert (single.exit_code, by_name(single)["MOVE"].way) == (ExitCode.DONE, Way.REWRITTEN)
    assert not any("slots" in one.sentence for one in single.advice)
    assert any("--monitor looks" in one.sentence and "EXEC" in one.sentence for one in counted.advice)


def test_counters_that_are_not_shown(start_server: Callable[..., Server]) -> None:
    server = start_server("redis-7.0", user="default on nopass ~* +@all -info")
    with pytest.raises(ServerError, match="shows nothing of its commands"):
        audited(server, AuditSettings(seconds=0.1))
    with server.session() as session, writing(session, TRAFFIC):
        report = audited(server, AuditSettings(seconds=0.5, tap=CALM))
    assert by_name(report)["SPOP"].sampled
    assert any("does not show its counters" in note for note in report.notes)


def test_counters_that_begin_anew(flushed: Callable[..., Server]) -> None:
    server = flushed("redis-7.0")
    with server.session() as session:
        session.pipeline([("GET", "a")] * 100)

        def reset(progress: AuditProgress) -> None:
            if progress.elapsed_s > 0.2:
                session.pipeline([("CONFIG", "RESETSTAT"), ("GET", "a")])

        report = run_audit([server.endpoint], AuditSettings(seconds=0.4), observe=reset, stop=Never())
    assert by_name(report)["GET"].calls == 1
    assert any("began anew" in note for note in report.notes)


def test_a_connection_that_was_closed_meanwhile(start_server: Callable[..., Server]) -> None:
    server = start_server("redis-7.0")
    with server.session() as session:

        def kill(progress: AuditProgress) -> None:
            session.pipeline([("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), ("GET", "a")])

        report = run_audit([server.endpoint], AuditSettings(seconds=0.4), observe=kill, stop=Never())
    assert by_name(report)["GET"].calls > 0


def test_ended_early_it_says_what_it_saw(flushed: Callable[..., Server]) -> None:
    server = flushed("redis-7.0")

    class Stop:
        requested = False

    stop = Stop()

    def ask(progress: AuditProgress) -> None:
        stop.requested = progress.elapsed_s > 0.3

    settings = AuditSettings(seconds=30, tap=TapLimits(seconds=20, rise_ms=0))
    with server.session() as session, writing(session, TRAFFIC):
        report = run_audit([server.endpoint], settings, observe=ask, stop=stop)
    assert report.interrupted
    assert report.exit_code is ExitCode.INTERRUPTED
    assert by_name(report)["SPOP"].sampled
    assert report.seconds < 10


def test_commands_that_nobody_knows_are_named() -> None:
    sample = Sample()
    sample.add(Heard(0, b"1.1.1.1:1", (b"mod.new", b"k")))
    found = uses({"xgroup": 3}, {"xgroup": 5, "config|get": 1}, sample, target_cluster=None, show_keys=False)
    assert [(use.name, use.way) for use in found] == [
        ("MOD.NEW", Way.UNKNOWN),
        ("XGROUP", Way.SAFE),
        ("CONFIG GET", Way.SAFE),
    ]
    report = AuditReport(seconds=1, servers=1, uptime_seconds=None, uses=found)
    (advice,) = report.advice
    assert "does not know MOD.NEW" in advice.sentence
    assert report.as_dict()["commands"][1]["calls_total"] == 5


def test_calls_without_our_own() -> None:
    before, after = Counters({"get": 5, "info": 1}), Counters({"get": 7, "info": 2, "set": 1})
    assert calls_between(before, after, {"info": 1}) == ({"get": 2, "set": 1}, False)
    assert calls_between(after, before, {"info": 1}) == ({"get": 5}, True)
