"""The judgement of the check, without servers: facts in, findings out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from keyferry.copy.check import CheckReport
from keyferry.copy.facts import (
    CheckRequest,
    Facts,
    Feed,
    ForeignKeys,
    MemoryFacts,
    ReplicationFacts,
    Right,
    Sample,
    SampledKey,
    ServerFacts,
    SourceFacts,
    TargetFacts,
)
from keyferry.copy.finding import Finding, listed, size
from keyferry.copy.identify import ClockOffset, identity_of
from keyferry.copy.info import (
    Keyspace,
    command_calls,
    data_bytes,
    info_number,
    keyspace,
    module_names,
    parse_info,
)
from keyferry.copy.judge_data import payload_ways
from keyferry.copy.judge_use import is_own
from keyferry.copy.preflight import judge, plan_of
from keyferry.copy.rights import Probe, acl_rule, notifies, psync_allowed, right_of
from keyferry.model.errors import ExitCode, RefusedError
from keyferry.model.identity import Family, ServerIdentity
from keyferry.model.keynames import MARKS
from keyferry.model.methods import Method
from keyferry.model.selection import Selection
from keyferry.wire.resp import ReplyError

MB = 1 << 20
REDIS_62 = ServerIdentity(Family.REDIS, (6, 2, 14), 9, "a" * 40)
REDIS_70 = ServerIdentity(Family.REDIS, (7, 0, 15), 10, "b" * 40)
REDIS_82 = ServerIdentity(Family.REDIS, (8, 2, 3), 12, "c" * 40)
REDIS_86 = ServerIdentity(Family.REDIS, (8, 6, 0), 13, "d" * 40)
CLOCK = ClockOffset(0.5, 0.1)
VALKEY_91 = ServerIdentity(Family.VALKEY, (9, 1, 2), 80, "e" * 40)


def server(side: Any, identity: ServerIdentity, **changed: Any) -> ServerFacts:
    """A server with nothing to complain of."""
    healthy = ServerFacts(
        side=side,
        address=f"redis://{side}:6379",
        user="default",
        identity=identity,
        round_trip_ms=0.2,
        memory=MemoryFacts(
            used=2 * MB, data=MB, maxmemory=0, system=1000 * MB, policy="noeviction", evicted_keys=0
        ),
        replication=ReplicationFacts("master"),
        keyspace={0: Keyspace(1000, 10)} if side == "source" else {},
        database_count=16,
        bulk_bytes_max=512 * MB,
        users=frozenset({"default"}),
        modules=frozenset(),
        function_libraries=0,
        rights=(
            Right("dump" if side == "source" else "restore", "allowed"),
            Right("hset", "allowed", use="logical"),
        ),
    )
    return replace(healthy, **changed)


def facts(
    source: ServerIdentity = REDIS_70,
    target: ServerIdentity = VALKEY_91,
    *,
    of_source: dict[str, Any] | None = None,
    of_target: dict[str, Any] | None = None,
    source_only: dict[str, Any] | None = None,
    target_only: dict[str, Any] | None = None,
    clock: ClockOffset | None = CLOCK,
) -> Facts:
    seen = SourceFacts(
        server("source", source, **(of_source or {})),
        sample=Sample((SampledKey(b"k", 0, "string", 100),)),
        feeds=(
            Feed("replication", "allowed"),
            Feed("tracking", "refused", "NOPERM"),
            Feed("notifications", "off"),
        ),
        calls={"get": 5},
    )
    aimed = TargetFacts(server("target", target, **(of_target or {})), foreign=(ForeignKeys(0, 0),))
    return Facts(replace(seen, **(source_only or {})), replace(aimed, **(target_only or {})), clock)


def about(topic: str, seen: Facts, request: CheckRequest | None = None) -> list[Finding]:
    return [finding for finding in judge(seen, request or CheckRequest()) if finding.topic == topic]


def only(topic: str, seen: Facts, request: CheckRequest | None = None) -> Finding:
    (finding,) = about(topic, seen, request)
    return finding


# --- As a whole


@pytest.mark.parametrize("source", [REDIS_62, REDIS_70, REDIS_82, VALKEY_91])
@pytest.mark.parametrize("target", [REDIS_62, REDIS_70, REDIS_82, VALKEY_91])
def test_a_healthy_pair_has_nothing_to_do(source: ServerIdentity, target: ServerIdentity) -> None:
    other = replace(target, run_id="f" * 40)
    findings = judge(facts(source, other), CheckRequest())
    assert {finding.level for finding in findings} == {"ok"}
    topics = {finding.topic for finding in findings}
    assert topics >= {
        "source", "target", "source rights", "target rights", "roles", "clocks", "versions", "payloads", "modules",
        "databases", "memory", "eviction", "target keys", "key sizes", "users", "functions", "scripts", "commands",
        "feeds",
    }  # fmt: skip


def test_every_line_is_one_line_and_says_what_to_do() -> None:
    bad = facts(
        of_source={"users": None, "modules": None, "cluster": True, "refusals": {"ACL USERS": "NOPERM no"}},
        of_target={"replication": ReplicationFacts("replica", upstream="a:1"), "function_libraries": None},
        source_only={"sample": Sample((), 3), "calls": None, "feeds": ()},
        target_only={"foreign": (ForeignKeys(0, 7),), "unknown_commands": None},
        clock=None,
    )
    for finding in judge(bad, CheckRequest()):
        assert "\n" not in finding.sentence + finding.advice
        assert finding.sentence.endswith(".") or finding.topic == "target writes"
        assert finding.level != "stop" or finding.advice
        assert len(finding.sentence) < 200


def test_the_report_counts_and_refuses() -> None:
    request = CheckRequest()
    seen = facts(target_only={"foreign": (ForeignKeys(0, 7),)})
    report = CheckReport(request, seen, tuple(judge(seen, request)))
    assert report.exit_code == ExitCode.REFUSED
    with pytest.raises(RefusedError, match="7 keys"):
        report.raise_if_stopped()
    found = json.loads(json.dumps(report.as_dict()))
    assert (found["verdict"], found["stops"], found["keys"], found["bytes"]) == ("stop", 1, 1000, MB)
    assert found["clock_offset_ms"] == 0.5
    healthy = CheckReport(request, facts(), tuple(judge(facts(), request)))
    assert healthy.exit_code == ExitCode.DONE
    healthy.raise_if_stopped()


# --- Access


def test_an_old_or_unknown_server_is_said_to_be_untested() -> None:
    old = facts(replace(REDIS_62, version=(5, 0, 14)))
    assert only("source", old).level == "warning"
    assert "tested from Redis 6.2 on" in only("source", old).advice
    unknown = facts(replace(REDIS_62, version=(0, 0, 0)))
    assert "does not say which version" in only("source", unknown).sentence


def test_the_same_server_by_run_id_or_address() -> None:
    hidden = replace(REDIS_70, run_id="")
    assert only("same server", facts(REDIS_70, REDIS_70)).level == "stop"
    place = {"address": "redis://one:1"}
    assert only("same server", facts(hidden, hidden, of_source=place, of_target=place)).level == "stop"
    assert only("same server", facts(hidden, hidden)).level == "warning"
    assert not about("same server", facts())


def test_logical_rights_stop_only_where_values_go_by_commands() -> None:
    lacking = {"rights": (Right("restore", "allowed"), Right("hset", "command", "NOPERM", use="logical"))}
    by_commands = only("target rights", facts(REDIS_82, VALKEY_91, of_target=lacking))
    assert by_commands.level == "stop"
    assert by_commands.advice == "Run on the target: ACL SETUSER default +hset"
    findings = about("target rights", facts(REDIS_70, VALKEY_91, of_target=lacking))
    assert [finding.level for finding in findings] == ["warning", "ok"]
    assert findings[0].sentence.startswith("Values too big for one DUMP")
    # What is read of the source by commands are only the values too big for one DUMP.
    reading = {"rights": (Right("dump", "allowed"), Right("hscan", "command", "NOPERM", use="logical"))}
    assert about("source rights", facts(REDIS_82, VALKEY_91, of_source=reading))[0].level == "warning"


def test_one_rule_gives_all_that_is_lacking() -> None:
    lacking = (Right("restore", "command"), Right("function|restore", "command"), Right("del", "key"))
    finding = only("target rights", facts(of_target={"rights": lacking, "user": "app"}))
    assert finding.advice == "Run on the target: ACL SETUSER app +restore +function|restore ~keyferry:*"
    assert (
        "may not run RESTORE, FUNCTION RESTORE, nor use names that begin with keyferry:" in finding.sentence
    )
    forbidden = facts(
        of_target={"rights": lacking, "user": "app"}, target_only={"tried_keys": 20, "forbidden_keys": 3}
    )
    assert "~* (or leave" in only("target rights", forbidden).advice
    assert "nor write 3 of 20 sampled keys" in only("target rights", forbidden).sentence
    # The source needs no right on our names: nothing is written there.
    assert only("source rights", facts(of_source={"rights": (Right("dump", "key"),)})).level == "ok"


def test_rights_that_could_not_be_looked_at_are_named() -> None:
    unclear = {"rights": (Right("restore", "allowed"), Right("hset", "unclear", use="logical"))}
    warning, fine = about("target rights", facts(of_target=unclear))
    assert warning.sentence == "Could not look at the right to run HSET (the target refuses MULTI)."
    assert fine.level == "ok"


@pytest.mark.parametrize(
    ("message", "state"),
    [
        ("NOPERM this user has no permissions to run the 'dump' command or its subcommand", "command"),
        ("NOPERM User u has no permissions to run the 'dump' command", "command"),
        ("NOPERM this user has no permissions to access one of the keys used as arguments", "key"),
        ("NOPERM No permissions to access a key", "key"),
        ("ERR unknown command `DUMP`, with args beginning with: ", "missing"),
        ("ERR unknown command 'DUMP', with args beginning with: ", "missing"),
        ("ERR unknown subcommand 'tracking'. Try CLIENT HELP.", "missing"),
        ("ERR 'client|tracking' is not allowed", "command"),
        ("ERR Command not allowed inside a transaction", "allowed"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "allowed"),
        ("READONLY You can't write against a read only replica.", "allowed"),
        ("ERR DUMP payload version or checksum are wrong", "allowed"),
    ],
)
def test_what_a_servers_answer_says_of_the_right(message: str, state: str) -> None:
    assert right_of(Probe("dump", ("DUMP", b"k")), ReplyError(message)) == Right("dump", state, message)  # type: ignore[arg-type]


def test_an_answer_that_is_no_error_is_a_right() -> None:
    assert right_of(Probe("dump", ("DUMP", b"k")), b"QUEUED").state == "allowed"
    assert right_of(Probe("dump", ("DUMP", b"k")), None).state == "allowed"


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ("+@all", True),
        ("+@all -psync", False),
        ("+@all -@dangerous", False),
        ("+@all -@admin +psync", True),
        ("-@all +get +scan", False),
        ("", None),
    ],
)
def test_psync_by_the_rules_of_a_user(rules: str, allowed: bool | None) -> None:
    assert psync_allowed(rules) is allowed


def test_the_rule_leaves_out_what_is_not_lacking() -> None:
    assert acl_rule("u", ["dump", "config|get"], "~*") == "ACL SETUSER u +dump +config|get ~*"
    assert acl_rule("u", [], "~keyferry:*") == "ACL SETUSER u ~keyferry:*"


def test_roles_that_nobody_tells() -> None:
    hidden = {"replication": ReplicationFacts("")}
    assert only("roles", facts(of_source=hidden)).level == "warning"


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "saving",
        ),
        ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write 0"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
        ("READONLY You can't write against a read only replica.", "writable"),
    ],
)
def test_a_target_that_refuses_writes(reply: str, advice: str) -> None:
    finding = only("target writes", facts(target_only={"write_refusal": reply}))
    assert finding.level == "stop"
    assert advice in finding.advice
    assert reply in finding.sentence


def test_readonly_of_a_replica_is_said_once() -> None:
    replica = {"replication": ReplicationFacts("replica", upstream="a:1")}
    seen = facts(of_target=replica, target_only={"write_refusal": "READONLY no"})
    assert not about("target writes", seen)
    assert only("target role", seen).level == "stop"


def test_a_user_that_the_application_uses_too() -> None:
    assert about("source user", facts()) == about("target user", facts()) == []
    shared = facts(of_source={"sharing": 12, "user": "svc"}, of_target={"sharing": 1, "cluster": True})
    source, target = only("source user", shared), only("target user", shared)
    assert (source.level, target.level) == ("warning", "warning")
    assert source.sentence.startswith("12 other connections on the source use our user svc:")
    assert "Give Keyferry a user of its own on the source: ACL SETUSER" in source.advice
    assert target.sentence.startswith("1 other connection on the target") and "on every node" in target.advice


def test_who_shares_our_user_is_not_known() -> None:
    finding = only(
        "source user", facts(of_source={"sharing": None, "refusals": {"CLIENT LIST": "NOPERM no"}})
    )
    assert finding.level == "warning" and "NOPERM no" in finding.sentence and finding.advice


@pytest.mark.parametrize(
    ("offset_ms", "uncertainty_ms", "level", "words"),
    [
        (0.4, 0.1, "ok", "0.4 ms ahead of"),
        (-900.0, 0.1, "ok", "900.0 ms behind"),
        (-7_200_000.0, 0.1, "warning", "7,200,000.0 ms behind"),
        (1100.0, 300.0, "ok", "(+/- 300.0 ms)"),
        (1400.0, 300.0, "warning", "1,400.0 ms ahead of"),
    ],
)
def test_clocks(offset_ms: float, uncertainty_ms: float, level: str, words: str) -> None:
    finding = only("clocks", facts(clock=ClockOffset(offset_ms, uncertainty_ms)))
    assert finding.level == level
    assert words in finding.sentence


# --- Data


def ways_of(source: ServerIdentity, target: ServerIdentity) -> dict[Method, list[str]]:
    return payload_ways(plan_of(facts(source, target), CheckRequest()), CheckRequest())


def test_the_way_of_each_type_of_what_the_source_writes_today() -> None:
    ways = ways_of(REDIS_70, REDIS_62)
    assert ways[Method.RESIGNED] == ["string", "set", "hash", "zset"]
    assert ways[Method.TRANSCODED] == ["hash", "zset", "list", "stream"]
    newer = ways_of(REDIS_62, REDIS_70)
    assert newer == {Method.RESTORE: ["string", "set", "hash", "zset", "list", "stream"]}
    other_make = ways_of(REDIS_82, VALKEY_91)
    assert other_make[Method.LOGICAL] == ["hash with field expiry"]
    assert "string" in other_make[Method.RESIGNED]
    assert ways_of(REDIS_82, REDIS_70)[Method.IMPOSSIBLE] == ["hash with field expiry"]
    assert "by commands: hash with field expiry" in only("payloads", facts(REDIS_82, VALKEY_91)).sentence


def test_field_expiry_that_the_target_lacks() -> None:
    uses = {"calls": {"hpexpire": 3, "hset": 9}}
    seen = facts(REDIS_82, REDIS_70, source_only=uses)
    assert only("field expiry", seen).level == "warning"
    assert "3 commands that set one" in only("field expiry", seen).sentence
    assert only("field expiry", facts(REDIS_82, REDIS_70)).level == "ok"
    assert only("field expiry", facts(REDIS_82, REDIS_70, source_only={"calls": None})).level == "warning"
    dropped = only("field expiry", seen, CheckRequest(drop_field_expiry=True))
    assert "dropped" in dropped.sentence
    assert not about("field expiry", facts(REDIS_82, VALKEY_91, source_only=uses))


def test_a_value_that_the_target_cannot_load_is_named() -> None:
    first, second = about("payloads", facts(REDIS_86, REDIS_82))
    assert first.level == "ok"
    assert second.level == "warning"
    assert second.sentence == "A stream (listpacks, idempotent producers) would fail."
    assert "at least as new" in second.advice


def test_what_streams_lose_is_said_where_there_are_streams() -> None:
    assert not about("streams", facts(REDIS_70, REDIS_62))
    assert only("streams", facts(REDIS_70, REDIS_62, source_only={"calls": {"xadd": 1}})).level == "warning"
    sampled = Sample((SampledKey(b"s", 0, "stream", 100),))
    assert about("streams", facts(REDIS_70, REDIS_62, source_only={"sample": sampled}))
    assert not about("streams", facts(REDIS_70, VALKEY_91, source_only={"sample": sampled}))


def test_modules() -> None:
    has = {"modules": frozenset({"ReJSON", "bf"})}
    finding = only("modules", facts(of_source=has, of_target={"modules": frozenset({"bf"})}))
    assert finding.level == "warning"
    assert "lacks the source's module ReJSON" in finding.sentence
    assert only("modules", facts(of_source=has, of_target=has)).level == "ok"
    builtin = {"modules": frozenset({"vectorset"}), "builtin_modules": frozenset({"vectorset"})}
    assert only("modules", facts(of_source=builtin)).level == "ok"
    sampled = {"sample": Sample((SampledKey(b"v", 0, "vectorset", 100),))}
    used = only("modules", facts(of_source=builtin, source_only=sampled))
    assert used.level == "warning" and "types vectorset" in used.sentence
    blind = only("modules", facts(of_target={"modules": None, "refusals": {"MODULE LIST": "NOPERM no"}}))
    assert blind.sentence == "Could not look at the target's modules (NOPERM no)."


def test_databases() -> None:
    several = {"keyspace": {0: Keyspace(5, 1), 3: Keyspace(7, 0)}}
    first, second = about("databases", facts(of_source=several))
    assert first.sentence == "5 keys in database 0, 1 of them with an expiry."
    assert second.sentence == "Not part of the copy: 7 keys in database 3."
    absent = facts(
        of_source=several,
        of_target={"absent_databases": {3: "ERR DB index is out of range"}, "database_count": 2},
        source_only={"selected": (0, 3)},
    )
    stop = about("databases", absent)[0]
    assert stop.level == "stop"
    assert stop.sentence == "The target does not give us database 3: it has 2 (ERR DB index is out of range)."
    assert stop.advice == "Set databases 4 in the target's configuration, or map it with --db-map 3:N."
    assert "Could not look" in only("databases", facts(of_source={"keyspace": None})).sentence


@pytest.mark.parametrize(
    ("data_mb", "maxmemory_mb", "level"),
    [
        (10, 100, "ok"),
        (80, 100, "warning"),
        (99, 100, "stop"),
        (10, 0, "ok"),
        (900, 0, "warning"),
        (1200, 0, "stop"),
    ],
)
def test_memory(data_mb: int, maxmemory_mb: int, level: str) -> None:
    target = MemoryFacts(
        used=2 * MB, data=0, maxmemory=maxmemory_mb * MB, system=1000 * MB, policy="noeviction"
    )
    seen = facts(of_source={"memory": MemoryFacts(data=data_mb * MB)}, of_target={"memory": target})
    finding = only("memory", seen)
    assert finding.level == level
    assert ("the machine's memory" in finding.sentence) == (maxmemory_mb == 0)
    if maxmemory_mb and level != "ok":
        advised_mb = int(finding.advice.split("maxmemory ")[1].split("mb")[0])
        roomier = replace(target, maxmemory=advised_mb * MB)
        again = facts(of_source={"memory": MemoryFacts(data=data_mb * MB)}, of_target={"memory": roomier})
        assert only("memory", again).level == "ok"


def test_memory_by_the_share_of_the_selected_databases() -> None:
    seen = facts(
        of_source={
            "memory": MemoryFacts(data=100 * MB),
            "keyspace": {0: Keyspace(250, 0), 1: Keyspace(750, 0)},
        }
    )
    assert only("memory", seen).sentence.startswith("The source's data takes about 26.2 MB;")
    empty = facts(of_source={"keyspace": {}})
    assert "about 0 B" in only("memory", empty).sentence


def test_memory_that_is_partly_there_already_does_not_stop() -> None:
    full = MemoryFacts(used=99 * MB, maxmemory=100 * MB, policy="noeviction")
    seen = facts(
        of_source={"memory": MemoryFacts(data=50 * MB)},
        of_target={"memory": full},
        target_only={"foreign": (ForeignKeys(0, 1000),)},
    )
    assert only("memory", seen, CheckRequest(on_conflict="replace")).level == "warning"


def test_memory_that_nobody_tells() -> None:
    assert "Could not look" in only("memory", facts(of_source={"memory": MemoryFacts()})).sentence
    assert "Could not look" in only("memory", facts(of_target={"memory": MemoryFacts()})).sentence
    assert "Could not look" in only("eviction", facts(of_target={"memory": MemoryFacts()})).sentence


def test_target_keys() -> None:
    approximate = facts(target_only={"foreign": (ForeignKeys(0, 5000, exact=False), ForeignKeys(2, 1))})
    finding = only("target keys", approximate)
    assert finding.level == "stop"
    assert finding.sentence == "The target already holds about 5,001 keys in databases 0, 2."
    unseen = facts(target_only={"foreign": (ForeignKeys(0, 0, known=False),)})
    assert only("target keys", unseen).level == "stop"
    assert only("target keys", unseen, CheckRequest(on_conflict="skip")).level == "warning"


def test_the_largest_key_and_the_longest_string() -> None:
    sample = Sample((SampledKey(b"a", 0, "string", 10), SampledKey(b"\xff\x00", 0, "hash", 100 * MB)))
    finding = only("key sizes", facts(source_only={"sample": sample}))
    assert finding.level == "ok"
    assert finding.sentence == "Largest of 2 sampled keys: hash \\xff\\x00, 104.9 MB; it travels in pieces."
    masked = only("key sizes", facts(source_only={"sample": sample}), CheckRequest(names=MARKS))
    assert f": hash {MARKS.name(sample.keys[1].key)}, 104.9 MB" in masked.sentence
    whole = only("key sizes", facts(source_only={"sample": sample}), CheckRequest(big_key_bytes=0))
    assert whole.level == "warning"
    assert "leave --big-key-bytes" in whole.advice
    long = Sample((SampledKey(b"k" * 5000, 0, "string", 600 * MB),))
    source_limit, target_limit, largest = about("key sizes", facts(source_only={"sample": long}))
    assert "proto-max-bulk-len of the source is 536.9 MB" in source_limit.sentence
    assert "CONFIG SET proto-max-bulk-len 1073741824" in target_limit.advice
    assert len(largest.sentence) < 120
    sizeless = Sample((SampledKey(b"a", 0, "string", 0),))
    assert "Could not look" in only("key sizes", facts(source_only={"sample": sizeless})).sentence


# --- Use


def test_functions_in_words() -> None:
    assert "1 function library," in only("functions", facts(of_source={"function_libraries": 1})).sentence
    assert "2 function libraries" in only("functions", facts(of_source={"function_libraries": 2})).sentence
    blind = {"function_libraries": None, "refusals": {"FUNCTION STATS": "NOPERM no"}}
    assert only("functions", facts(of_source=blind)).level == "warning"


def test_commands_that_we_run_ourselves_are_not_the_applications() -> None:
    assert is_own("pexpiretime") and is_own("client|tracking") and is_own("function|stats")
    assert not is_own("get") and not is_own("function|load")
    seen = facts(
        source_only={"calls": {"get": 1, "pexpiretime": 9, "lmpop": 2000, "expiretime": 3}},
        target_only={"unknown_commands": frozenset({"pexpiretime", "lmpop", "expiretime"})},
    )
    assert "does not know LMPOP (2,000), EXPIRETIME (3), which" in only("commands", seen).sentence
    only_ours = facts(target_only={"unknown_commands": frozenset({"pexpiretime"})})
    assert only("commands", only_ours).level == "ok"


def test_feeds_in_one_line() -> None:
    assert only("feeds", facts()).sentence == (
        "The source lets us follow changes by replication; tracking refused (NOPERM); notifications not switched on."
    )
    none = facts(source_only={"feeds": (Feed("replication", "refused", "no PSYNC"),)})
    assert only("feeds", none).level == "warning"


@pytest.mark.parametrize(
    ("flags", "enough"),
    [
        ("KA", True),
        ("AKE", True),
        ("EA", False),
        ("Kg$lshzxet", True),
        ("Kg$", False),
        ("A", False),
        ("", False),
    ],
)
def test_notifications_that_name_every_key(flags: str, enough: bool) -> None:
    assert notifies(flags) is enough


# --- INFO


def test_info_by_section_and_field() -> None:
    info = parse_info(
        b"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nrun_id:abc\r\n"
        b"executable:/a:b\r\n\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0,subexpiry=0\r\ndb10:keys=1,expires=0\r\n"
        b"# Commandstats\r\ncmdstat_get:calls=3,usec=10,usec_per_call=3.33,rejected_calls=0,failed_calls=0\r\n"
        b"cmdstat_config|get:calls=1,usec=10\r\ncmdstat_dump:calls=0,usec=0,rejected_calls=4\r\n"
    )
    assert info["server"]["executable"] == "/a:b"
    assert keyspace(info) == {0: Keyspace(3, 1), 10: Keyspace(1, 0)}
    assert command_calls(info) == {"get": 3, "config|get": 1}
    assert identity_of(info) == ServerIdentity(Family.VALKEY, (9, 1, 2), 80, "abc")
    assert info_number(info, "server", "run_id") is None
    assert data_bytes(info) is None


def test_info_of_broken_text_is_no_error() -> None:
    assert parse_info(b"") == {}
    assert parse_info(b"a:b\nx\n\xff:\xfe") == {"": {"\\xff": "\\xfe", "a": "b"}}
    assert identity_of({}) == ServerIdentity(Family.REDIS, (0, 0, 0), 0, "")


def test_the_data_is_what_is_left_without_the_servers_own() -> None:
    text = b"# Memory\nused_memory:1000\nused_memory_startup:300\nmem_clients_normal:50\nmem_aof_buffer:0\n"
    assert data_bytes(parse_info(text)) == 650
    assert data_bytes(parse_info(b"# Memory\nused_memory:100\nused_memory_startup:300\n")) == 0


def test_modules_by_info() -> None:
    text = b"# Modules\r\nmodule:name=ReJSON,ver=20000,api=1\r\nmodule:name=bf,ver=1\r\n"
    assert module_names(text) == {"ReJSON", "bf"}


def test_figures() -> None:
    assert [size(number) for number in (0, 999, 1500, 24_100_000, 3e9, 5e12)] == [
        "0 B", "999 B", "1.5 KB", "24.1 MB", "3.0 GB", "5000.0 GB",
    ]  # fmt: skip
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"


def test_the_selection_of_the_request_reaches_the_findings() -> None:
    seen = facts(
        of_source={"keyspace": {1: Keyspace(2, 0), 2: Keyspace(3, 0)}},
        source_only={"selected": (1, 2)},
    )
    request = CheckRequest(Selection(databases=(1, 2), database_map={1: 0, 2: 0}))
    assert "Databases 1, 2 all go into database 0" in about("databases", seen, request)[0].sentence
