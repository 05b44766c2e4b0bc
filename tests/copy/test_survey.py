"""The survey against real servers: every finding provoked for real, and nothing written that stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from keyferry.copy import survey
from keyferry.copy.check import CheckReport, run_check
from keyferry.copy.facts import CheckRequest, ServerFacts
from keyferry.copy.finding import Finding
from keyferry.copy.identify import clock_offset, identify
from keyferry.copy.info import command_calls, parse_info
from keyferry.model.address import Endpoint
from keyferry.model.errors import ExitCode, RefusedError, ServerError
from keyferry.model.identity import Family
from keyferry.model.selection import Selection
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import Session

StartServer = Callable[..., Server]
Flushed = Callable[..., Server]
REDIS_6, REDIS_7, REDIS_8, VALKEY_9 = "redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"
RDB_VERSIONS = {REDIS_6: 9, REDIS_7: 10, REDIS_8: 12, VALKEY_9: 80}
ALL_DATABASES = CheckRequest(Selection(databases=None))


def run(server: Server, *commands: tuple[Argument, ...]) -> None:
    with server.session() as session:
        for command in commands:
            reply = session.call(*command)
            assert not isinstance(reply, ReplyError), (command, reply)


def topic(report: CheckReport, name: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.topic == name]


def one(report: CheckReport, name: str) -> Finding:
    (finding,) = topic(report, name)
    return finding


def check(source: Server, target: Server, request: CheckRequest | None = None) -> CheckReport:
    return run_check(source.endpoint, target.endpoint, request or CheckRequest())


def states(server: ServerFacts) -> dict[str, str]:
    return {right.token: right.state for right in server.rights}


@pytest.fixture
def pair(flushed: Flushed) -> tuple[Server, Server]:
    return flushed(REDIS_7), flushed(VALKEY_9)


# --- Identity


def test_identity_of_every_server_by_its_own_payload(server: Server) -> None:
    run(server, ("SET", "k", "v"))
    for side in ("source", "target"):
        with server.session(side=side) as session:
            found = identify(session)
            assert found.family is server.binary.family
            assert found.version == server.binary.version
            assert found.rdb_version == RDB_VERSIONS[server.binary.name]
            assert len(found.run_id) == 40
            assert session.call("KEYS", "*") == [b"k"]


def test_an_empty_source_is_identified_without_writing(server: Server) -> None:
    with server.session() as session:
        before = _writes(server)
        assert identify(session).rdb_version in (RDB_VERSIONS[server.binary.name], 11, 12)
        assert _writes(server) == before


def test_identity_where_info_is_forbidden(start_server: StartServer) -> None:
    server = start_server(VALKEY_9)
    run(server, ("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info"))
    with _session(server, "u") as session:
        found = identify(session)
    assert (found.family, found.version, found.run_id) in (
        (Family.VALKEY, server.binary.version, ""),
        (Family.REDIS, (7, 2, 4), ""),
    )


def test_a_huge_value_is_not_dumped_to_see_its_footer(flushed: Flushed) -> None:
    server = flushed(REDIS_7)
    run(server, ("SET", "big", b"x" * 1_000_000), ("CONFIG", "RESETSTAT"))
    with server.session() as session:
        assert identify(session).rdb_version == 10
    assert "dump" not in _calls(server)


# --- A good pair


def test_every_pair_of_servers_is_looked_at(server_pair: tuple[Server, Server]) -> None:
    source, target = server_pair
    run(source, ("SET", "k", "v"), ("XADD", "s", "*", "f", "v"), ("HSET", "h", "f", "v"))
    report = check(source, target)
    assert report.exit_code == ExitCode.DONE, report.stops
    for server, facts in (
        (source, report.facts.source.server),
        (target, report.facts.target.server),
    ):
        assert facts.identity.rdb_version == RDB_VERSIONS[server.binary.name]
        assert set(states(facts).values()) == {"allowed"}
    assert report.keys == 3
    assert report.facts.clock is not None
    assert abs(report.facts.clock.offset_ms) <= report.facts.clock.uncertainty_ms + 1
    # The logical way into the older target has its commands probed only where it has them.
    assert ("hpexpireat" in states(report.facts.target.server)) == (target.binary.name in (REDIS_8, VALKEY_9))


def test_nothing_is_written_on_the_source_and_nothing_stays_on_the_target(
    server_pair: tuple[Server, Server],
) -> None:
    source, target = server_pair
    run(source, ("SET", "k", "v", "PX", "100000"), ("SELECT", 2), ("SADD", "s", "1"))
    run(target, ("SET", "k", "other"))
    before = _writes(source)
    check(source, target, ALL_DATABASES)
    assert _writes(source) == before
    with target.session() as session:
        assert session.call("KEYS", "*") == [b"k"]
        assert session.call("GET", "k") == b"other"


def test_the_report_is_json_and_says_what_would_happen(pair: tuple[Server, Server]) -> None:
    source, target = pair
    run(source, *[("SET", f"k{i}", "v" * 100) for i in range(500)])
    found = check(source, target).as_dict()
    assert found["verdict"] == "ok"
    assert found["keys"] == 500
    assert found["bytes"] > 500 * 100
    assert found["payloads"] == {"restore": ["string", "set", "hash", "zset", "list", "stream"]}
    assert found["source"]["rdb_version"] == 10
    assert {finding["level"] for finding in found["findings"]} == {"ok"}


# --- Reachability


def test_nobody_listens(flushed: Flushed) -> None:
    with pytest.raises(ServerError) as caught:
        run_check(flushed(REDIS_7).endpoint, Endpoint(host="127.0.0.1", port=1), CheckRequest())
    assert caught.value.side == "target"
    assert caught.value.exit_code == ExitCode.SERVER


def test_a_wrong_password_is_no_answer_and_is_not_shown(start_server: StartServer, flushed: Flushed) -> None:
    source = start_server(REDIS_7, requirepass="right-secret")
    with pytest.raises(ServerError) as caught:
        run_check(source.endpoint.with_password("wrong-secret"), flushed(VALKEY_9).endpoint, CheckRequest())
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.SERVER


# --- Rights


@pytest.mark.parametrize("name", [REDIS_6, REDIS_7, REDIS_8, VALKEY_9])
def test_missing_commands_are_named_with_the_rule_that_gives_them(
    start_server: StartServer, flushed: Flushed, name: str
) -> None:
    source, target = start_server(name), flushed(REDIS_8)
    run(source, ("SET", "k", "v"))
    run(source, ("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-dump", "-scan"))
    report = run_check(_as(source, "u"), target.endpoint, CheckRequest())
    finding = one(report, "source rights")
    assert finding.level == "stop"
    assert "SCAN, DUMP" in finding.sentence
    assert finding.advice == "Run on the source: ACL SETUSER u +scan +dump"
    _obey(source, finding.advice)
    assert one(run_check(_as(source, "u"), target.endpoint, CheckRequest()), "source rights").level == "ok"


@pytest.mark.parametrize("name", [REDIS_6, REDIS_7, VALKEY_9])
def test_the_target_user_needs_restore_and_the_reserved_names(
    start_server: StartServer, flushed: Flushed, name: str
) -> None:
    source, target = flushed(REDIS_6), start_server(name)
    run(source, ("SET", "app:k", "v"))
    run(target, ("ACL", "SETUSER", "u", "on", ">p", "~app:*", "+@all", "-restore"))
    report = run_check(source.endpoint, _as(target, "u"), CheckRequest())
    assert states(report.facts.target.server)["restore"] == "command"
    assert states(report.facts.target.server)["unlink"] == "key"
    advice = [finding.advice for finding in topic(report, "target rights") if finding.level == "stop"]
    assert advice == ["Run on the target: ACL SETUSER u +restore ~keyferry:*"]
    for line in advice:
        _obey(target, line)
    after = run_check(source.endpoint, _as(target, "u"), CheckRequest())
    assert not [finding for finding in after.findings if finding.level == "stop"]


def test_keys_that_the_users_may_not_touch(start_server: StartServer) -> None:
    source, target = start_server(REDIS_7), start_server(VALKEY_9)
    run(source, ("SET", "app:k", "v"), ("SET", "other:k", "v"), ("SET", "other:l", "v"))
    for server in (source, target):
        run(server, ("ACL", "SETUSER", "u", "on", ">p", "~app:*", "~keyferry:*", "+@all"))
    report = run_check(_as(source, "u"), target.endpoint, CheckRequest())
    assert "may not read 2 of 3 sampled keys" in one_stop(report).sentence
    report = run_check(source.endpoint, _as(target, "u"), CheckRequest())
    assert "may not write 2 of 3 sampled keys" in one_stop(report).sentence
    narrowed = CheckRequest(Selection(match=(b"app:*",)))
    assert run_check(_as(source, "u"), _as(target, "u"), narrowed).exit_code == ExitCode.DONE


def one_stop(report: CheckReport) -> Finding:
    (finding,) = report.stops
    return finding


@pytest.mark.parametrize("name", [REDIS_6, REDIS_7, REDIS_8, VALKEY_9])
def test_a_user_with_the_least_rights_gets_gaps_and_no_errors(
    start_server: StartServer, flushed: Flushed, name: str
) -> None:
    source, target = start_server(name), flushed(VALKEY_9)
    run(source, ("SET", "k", "v"))
    # What a copy needs, and nothing of what the check would like to have besides.
    needed = "+scan +dump +pttl +time +info +dbsize +select +ping"
    run(source, ("ACL", "SETUSER", "u", "on", ">p", "~*", "-@all", *needed.split()))
    if name != REDIS_6:
        run(source, ("ACL", "SETUSER", "u", "+pexpiretime"))
    report = run_check(_as(source, "u"), target.endpoint, CheckRequest())
    unseen = {
        finding.topic for finding in report.findings if finding.sentence.startswith("Could not look at")
    }
    assert {"users", "key sizes"} <= unseen
    assert all("NOPERM" in one(report, name).sentence for name in ("users", "key sizes"))
    # MODULE LIST is forbidden, but INFO tells the modules too.
    assert one(report, "modules").level == "ok"
    facts = report.facts.source
    assert facts.server.refusals["CONFIG GET"].startswith("NOPERM")
    assert [feed.state for feed in facts.feeds] == ["unclear", "refused", "unclear"]
    # Without MULTI only what is harmless was asked for, and it was all that a copy always needs.
    assert not [
        finding for finding in report.stops if "SCAN" in finding.sentence or "DUMP" in finding.sentence
    ]
    assert states(facts.server)["dump"] == "allowed"
    assert states(facts.server)["strlen"] == "command"


def test_without_multi_writes_are_not_tried(start_server: StartServer, flushed: Flushed) -> None:
    source, target = flushed(REDIS_7), start_server(REDIS_7)
    run(target, ("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-multi"))
    report = run_check(source.endpoint, _as(target, "u"), CheckRequest())
    found = states(report.facts.target.server)
    assert found["restore"] == found["unlink"] == "allowed"
    assert (found["multi"], found["exec"]) == ("command", "allowed")
    assert found["hset"] == found["rename"] == "unclear"
    with target.session() as session:
        assert session.call("DBSIZE") == 0


def test_renamed_commands_as_managed_services_have_them(start_server: StartServer, flushed: Flushed) -> None:
    source = start_server(
        REDIS_6, rename_command='CONFIG ""\nrename-command ACL ""\nrename-command COMMAND ""'
    )
    renamed = 'CONFIG ""\nrename-command COMMAND ""\nrename-command MODULE ""\nrename-command UNLINK ""'
    target = start_server(REDIS_7, rename_command=renamed)
    run(source, ("SET", "k", "v"))
    report = check(source, target)
    assert "unknown command" in report.facts.source.server.refusals["CONFIG GET"]
    assert one(report, "users").sentence.startswith(
        "Could not look at the source's ACL users (ERR unknown command"
    )
    assert one(report, "commands").sentence.startswith("Could not look at the commands that the target knows")
    # INFO tells the modules where MODULE LIST is forbidden.
    assert one(report, "modules").level == "ok"
    stop = one_stop(report)
    assert stop.topic == "target rights"
    assert "does not know UNLINK" in stop.sentence
    assert one(report, "databases").level == "ok"


# --- Roles and places


def test_same_server_by_another_address(flushed: Flushed) -> None:
    server = flushed(REDIS_7)
    report = run_check(server.endpoint, Endpoint(unix_path=str(server.unix_path)), CheckRequest())
    assert one(report, "same server").level == "stop"
    assert report.exit_code == ExitCode.REFUSED
    with pytest.raises(RefusedError, match="one server") as caught:
        report.raise_if_stopped()
    assert caught.value.hint


def test_replicas(start_server: StartServer, flushed: Flushed) -> None:
    master, replica, other = (
        flushed(REDIS_7),
        start_server(REDIS_7, repl_diskless_sync_delay="0"),
        flushed(VALKEY_9),
    )
    run(master, ("SET", "k", "v"))
    _replicate(replica, master)
    as_source = check(replica, other)
    assert one(as_source, "source role").level == "warning"
    assert f"replica of 127.0.0.1:{master.port}" in one(as_source, "source role").sentence
    assert as_source.exit_code == ExitCode.DONE
    as_target = check(master, replica, CheckRequest(on_conflict="replace"))
    assert one(as_target, "target role").level == "stop"
    assert not topic(as_target, "target writes")
    run(replica, ("CONFIG", "SET", "replica-read-only", "no"))
    writable = check(master, replica, CheckRequest(on_conflict="replace"))
    assert one(writable, "target role").level == "warning"
    assert writable.exit_code == ExitCode.DONE


def test_a_replica_without_its_master(start_server: StartServer, flushed: Flushed) -> None:
    replica = start_server(REDIS_7)
    run(replica, ("SET", "k", "v"), ("REPLICAOF", "127.0.0.1", "1"))
    report = check(replica, flushed(VALKEY_9))
    assert "lost its link" in one(report, "source role").sentence


def test_a_database_behind_a_forbidden_select_is_not_called_absent(
    start_server: StartServer, flushed: Flushed
) -> None:
    source, target = flushed(REDIS_7), start_server(VALKEY_9)
    run(source, ("SET", "k", "v"), ("SELECT", 1), ("SET", "k", "v"))
    run(target, ("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-select"))
    report = run_check(source.endpoint, _as(target, "u"), ALL_DATABASES)
    assert not report.facts.target.server.absent_databases
    assert "SELECT" in one(report, "target rights").sentence
    assert "Could not look at the target's keys in database 1" in one(report, "target keys").sentence


# --- Data


def test_a_target_that_holds_keys(pair: tuple[Server, Server]) -> None:
    source, target = pair
    run(source, ("SET", "k", "v"))
    run(target, ("SET", "keyferry:phase", "ours"))
    assert one(check(source, target), "target keys").level == "ok"
    run(target, ("SET", "theirs", "v"), ("SET", "theirs:2", "v"))
    refused = check(source, target)
    assert one_stop(refused).topic == "target keys"
    assert "2 keys in database 0" in one_stop(refused).sentence
    assert "--on-conflict replace, skip or fail" in one_stop(refused).advice
    for policy in ("replace", "skip", "fail"):
        allowed = check(source, target, CheckRequest(on_conflict=policy))
        assert one(allowed, "target keys").level == "warning"
    assert one(check(source, target, CheckRequest(resuming=True)), "target keys").level == "ok"
    elsewhere = CheckRequest(Selection(database_map={0: 5}))
    assert one(check(source, target, elsewhere), "target keys").level == "ok"


def test_a_full_target_is_not_counted_key_by_key(pair: tuple[Server, Server]) -> None:
    source, target = pair
    run(target, ("DEBUG", "POPULATE", "20000"), ("CONFIG", "RESETSTAT"))
    report = check(source, target)
    assert "about 20,000 keys" in one(report, "target keys").sentence
    assert _calls(target)["scan"] <= survey.FOREIGN_PAGES_MAX + 1


def test_databases_that_the_target_lacks(start_server: StartServer, flushed: Flushed) -> None:
    source, target = flushed(REDIS_7), start_server(VALKEY_9, databases="4")
    run(source, ("SET", "k", "v"), ("SELECT", 9), ("SET", "k", "v"))
    stop = one_stop(check(source, target, ALL_DATABASES))
    assert "database 9: it has 4" in stop.sentence
    assert "Set databases 10" in stop.advice
    mapped = CheckRequest(Selection(databases=None, database_map={9: 3}))
    assert check(source, target, mapped).exit_code == ExitCode.DONE
    merged = check(source, target, CheckRequest(Selection(databases=None, database_map={9: 0})))
    assert "Databases 0, 9 all go into database 0" in topic(merged, "databases")[0].sentence
    left_out = check(source, target)
    assert [finding.level for finding in topic(left_out, "databases")] == ["ok", "warning"]


def test_a_database_that_the_source_lacks(start_server: StartServer, flushed: Flushed) -> None:
    source = start_server(REDIS_7, databases="4")
    report = check(source, flushed(VALKEY_9), CheckRequest(Selection(databases=(7,))))
    assert "The source does not give us database 7" in report.stops[0].sentence


def test_memory_and_eviction(start_server: StartServer) -> None:
    source, target = (
        start_server(REDIS_7),
        start_server(REDIS_7, maxmemory="8mb", maxmemory_policy="allkeys-lru"),
    )
    run(source, *[("SET", f"k{i}", b"x" * 100_000) for i in range(100)])
    report = check(source, target)
    stop = one_stop(report)
    assert stop.topic == "memory"
    assert (
        stop.sentence.startswith("The source's data takes about 1")
        and "of 8.4 MB (maxmemory)" in stop.sentence
    )
    evicting = one(report, "eviction")
    assert evicting.level == "warning" and "allkeys-lru" in evicting.sentence
    _obey(target, stop.advice)
    assert one(check(source, target), "memory").level == "ok"
    run(
        source, ("CONFIG", "SET", "maxmemory", "500mb"), ("CONFIG", "SET", "maxmemory-policy", "volatile-lfu")
    )
    run(target, ("CONFIG", "SET", "maxmemory-policy", "noeviction"))
    try:
        assert "would refuse writes" in one(check(source, target), "eviction").sentence
    finally:
        run(source, ("CONFIG", "SET", "maxmemory", "0"), ("CONFIG", "SET", "maxmemory-policy", "noeviction"))


def test_a_target_that_takes_no_writes_now(start_server: StartServer, flushed: Flushed) -> None:
    target = start_server(REDIS_7, min_replicas_to_write="1")
    stop = one_stop(check(flushed(VALKEY_9), target))
    assert stop.topic == "target writes"
    assert "NOREPLICAS" in stop.sentence and "min-replicas-to-write 0" in stop.advice
    full = start_server(REDIS_7)
    run(full, ("SET", "k", b"x" * 1_000_000), ("CONFIG", "SET", "maxmemory", "1mb"))
    report = check(flushed(VALKEY_9), full, CheckRequest(on_conflict="skip"))
    assert "OOM" in one(report, "target writes").sentence
    assert states(report.facts.target.server)["restore"] == "allowed"


def test_the_sample_is_bounded_and_finds_the_big_key(flushed: Flushed) -> None:
    source, target = flushed(REDIS_7), flushed(VALKEY_9)
    run(source, ("DEBUG", "POPULATE", "50000"), ("SELECT", 1), ("SET", "big", b"x" * 3_000_000))
    run(source, ("SET", "keyferry:big", b"x" * 9_000_000), ("CONFIG", "RESETSTAT"))
    began = time.monotonic()
    report = check(source, target, ALL_DATABASES)
    assert time.monotonic() - began < 5
    assert len(report.facts.source.sample.keys) <= survey.SAMPLE_KEYS_MAX + 2 * survey.SAMPLE_PAGE_KEYS
    assert "string big, 3." in one(report, "key sizes").sentence
    calls = _calls(source)
    assert calls["memory|usage"] <= survey.SAMPLE_KEYS_MAX + 2 * survey.SAMPLE_PAGE_KEYS + 3
    assert "keys" not in calls


def test_a_string_near_the_longest_one_allowed_names_the_parameter(
    start_server: StartServer, flushed: Flushed
) -> None:
    source, target = flushed(REDIS_7), start_server(REDIS_7, proto_max_bulk_len="1mb")
    run(source, ("SET", "big", b"x" * 3_000_000))
    finding = topic(check(source, target), "key sizes")[0]
    assert finding.level == "warning"
    assert "proto-max-bulk-len of the target is 1.0 MB" in finding.sentence
    assert "CONFIG SET proto-max-bulk-len 4194304" in finding.advice


# --- What applications use


def test_users_that_the_target_lacks_without_their_passwords(
    start_server: StartServer, flushed: Flushed
) -> None:
    source = start_server(REDIS_7)
    run(source, ("ACL", "SETUSER", "alice", "on", ">hidden", "~*", "+@all"), ("ACL", "SETUSER", "bob"))
    report = check(source, flushed(VALKEY_9))
    assert "lacks 2 ACL users of the source: alice, bob" in one(report, "users").sentence
    assert "hidden" not in repr(report)
    assert "e564b4081d7a9ea4b00dada53bdae70c99b87b6fce869f0c3dd4d2bfa1e53e1c" not in repr(report)


def test_functions(flushed: Flushed) -> None:
    source, old, new = flushed(REDIS_7), flushed(REDIS_6), flushed(VALKEY_9)
    code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    run(source, ("FUNCTION", "LOAD", code))
    assert one(check(source, new), "functions").level == "warning"
    assert one(check(source, new, CheckRequest(functions=True)), "functions").level == "ok"
    assert one(check(source, old), "functions").level == "warning"
    assert one(check(source, old, CheckRequest(functions=True)), "functions").level == "stop"
    assert "before 7.0" in one(check(old, new), "functions").sentence


def test_scripts_and_commands_that_the_target_does_not_know(flushed: Flushed) -> None:
    source, target = flushed(REDIS_7), flushed(REDIS_6)
    run(source, ("CONFIG", "RESETSTAT"))
    with source.session() as session:
        digest = session.call("SCRIPT", "LOAD", "return 1")
        assert isinstance(digest, bytes)
        session.pipeline([("EVALSHA", digest, 0)] * 3)
        session.pipeline(
            [("EXPIRETIME", "k")] * 2 + [("LMPOP", 1, "l", "LEFT"), ("CLIENT", "NO-EVICT", "OFF")]
        )
    report = check(source, target)
    assert "EVALSHA 3 times" in one(report, "scripts").sentence
    assert "does not know EXPIRETIME (2), LMPOP (1)," in one(report, "commands").sentence
    # Our own probes must not look like the application's.
    again = check(source, target)
    assert one(again, "commands") == one(report, "commands")
    same_make = check(source, flushed(REDIS_7, 1))
    assert one(same_make, "commands").level == "ok"


def test_subcommands_are_compared_where_the_target_has_them(flushed: Flushed) -> None:
    source, target = flushed(REDIS_8), flushed(REDIS_7)
    run(source, ("CONFIG", "RESETSTAT"), ("XINFO", "HELP"), ("HSETEX", "h", "FIELDS", 1, "f", "v"))
    finding = one(check(source, target), "commands")
    assert "HSETEX (1)" in finding.sentence and "XINFO" not in finding.sentence


@pytest.mark.parametrize("name", [REDIS_6, REDIS_7, REDIS_8, VALKEY_9])
def test_feeds(start_server: StartServer, flushed: Flushed, name: str) -> None:
    source, target = start_server(name, notify_keyspace_events="KA"), flushed(VALKEY_9)
    report = check(source, target)
    assert [feed.state for feed in report.facts.source.feeds] == ["allowed", "allowed", "allowed"]
    tracking = "-client" if name == REDIS_6 else "-client|tracking"
    run(source, ("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-psync", tracking))
    run(source, ("CONFIG", "SET", "notify-keyspace-events", "Kg"))
    limited = run_check(_as(source, "u"), target.endpoint, CheckRequest())
    assert [feed.state for feed in limited.facts.source.feeds] == ["refused", "refused", "off"]
    assert one(limited, "feeds").level == "warning"
    with source.session() as session:
        assert b"flags=t" not in session.call("CLIENT", "LIST")  # type: ignore[operator]
        assert parse_info(session.call("INFO", "replication"))["replication"]["connected_slaves"] == "0"  # type: ignore[arg-type]


# --- Clocks


def test_the_clock_difference_is_found_with_its_error(pair: tuple[Server, Server]) -> None:
    source, target = pair
    with source.session() as one_session, target.session(side="target") as other:
        found = clock_offset(one_session, other)
        back = clock_offset(other, one_session)
    assert found is not None and back is not None
    # One machine, one clock.
    assert abs(found.offset_ms) <= found.uncertainty_ms + 0.5
    assert abs(back.offset_ms) <= back.uncertainty_ms + 0.5
    assert 0 < found.uncertainty_ms < 1000


def test_no_clock_where_time_is_forbidden(start_server: StartServer, flushed: Flushed) -> None:
    source = start_server(REDIS_7)
    run(source, ("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-time"))
    report = run_check(_as(source, "u"), flushed(VALKEY_9).endpoint, CheckRequest())
    assert report.facts.clock is None
    assert one(report, "clocks").level == "warning"
    assert "+time" in one_stop(report).advice


# --- Helpers


def _as(server: Server, user: str) -> Endpoint:
    return replace(server.endpoint, username=user, password="p")


def _session(server: Server, user: str) -> Session:
    return Session(_as(server, user), "source")


def _obey(server: Server, advice: str) -> None:
    """Runs the command that an advice names, as its reader would."""
    command = (
        advice.partition(": ")[2] if ": " in advice else advice.removeprefix("Run ").partition(" on the")[0]
    )
    run(server, tuple(command.split()))


def _writes(server: Server) -> str:
    with server.session() as session:
        info = session.call("INFO", "all")
    assert isinstance(info, bytes)
    return parse_info(info)["persistence"]["rdb_changes_since_last_save"]


def _calls(server: Server) -> dict[str, int]:
    with server.session() as session:
        info = session.call("INFO", "commandstats")
    assert isinstance(info, bytes)
    return command_calls(parse_info(info))


def _replicate(replica: Server, master: Server) -> None:
    run(replica, ("REPLICAOF", "127.0.0.1", master.port))
    deadline = time.monotonic() + 20
    with replica.session() as session:
        while time.monotonic() < deadline:
            info = session.call("INFO", "replication")
            assert isinstance(info, bytes)
            if parse_info(info)["replication"]["master_link_status"] == "up":
                return
            time.sleep(0.05)
    raise AssertionError("the replica never got its link up")


def test_other_connections_of_our_user_are_counted(server: Server, flushed: Flushed) -> None:
    target = flushed(VALKEY_9, 1)
    with server.session() as app, server.session() as reader:
        app.call("CLIENT", "SETNAME", "shop")
        reader.call("CLIENT", "SETNAME", "")
        found = one(check(server, target), "source user")
        assert found.sentence.startswith("2 other connections on the source use our user default:")
    assert not topic(check(server, target), "source user")
    assert not topic(check(server, target), "target user")


def test_without_names_nobody_can_tell_who_shares_our_user(server: Server, flushed: Flushed) -> None:
    target = flushed(VALKEY_9, 1)
    run(server, ("ACL", "SETUSER", "nameless", "on", "nopass", "~*", "+@all", "-client", "+client|list"))
    try:
        endpoint = replace(server.endpoint, username="nameless", password="x")
        found = one(run_check(endpoint, target.endpoint, CheckRequest()), "source user")
    finally:
        run(server, ("ACL", "DELUSER", "nameless"))
    assert found.level == "warning" and "CLIENT SETNAME is refused" in found.sentence
