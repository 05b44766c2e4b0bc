"""Every value of every encoding, between every ordered pair of servers, through a whole copy and both twins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from copying import Copying, ask, assert_consistent, assert_equal, compared, fill, fill_strings
from keyferry.model.identity import Family
from keyferry.testing.cases import build, cases_for
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.transfer import relay
from keyferry.transfer.relay_pure import PureRelay

TWINS = ["compiled", "pure"] if relay.IMPLEMENTATION == "compiled" else ["pure"]
Deployment = Server | Cluster
COUNTERS = ("entries-added", "entries-read", "max-deleted-id")
"""What streams have since Redis 7.0."""


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pure":
        monkeypatch.setattr("keyferry.copy.passes.make_relay", PureRelay)
    name: str = request.param
    return name


def has_field_expiry(server: Deployment) -> bool:
    since = (7, 4, 0) if server.binary.family is Family.REDIS else (9, 0, 0)
    return server.binary.version >= since


def lost_aspects(source: Deployment, target: Deployment) -> tuple[str, ...]:
    older = any(server.binary.version < (7, 0, 0) for server in (source, target))
    return COUNTERS if older else ()


@pytest.mark.usefixtures("twin")
def test_every_encoding_arrives(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    every_encoding_arrives(*server_pair, tmp_path)


def test_every_encoding_arrives_from_and_in_clusters(
    every_deployment_pair: tuple[Deployment, Deployment], tmp_path: Path
) -> None:
    every_encoding_arrives(*every_deployment_pair, tmp_path)


def every_encoding_arrives(source: Deployment, target: Deployment, tmp_path: Path) -> None:
    cases = cases_for(source.binary.version, source.binary.family)
    with source.session() as session:
        build(session, cases)
    failures = tmp_path / "failures.jsonl"
    report = Copying(tmp_path / "state").run(source, target, failures_file=failures, batch=50)

    assert_consistent(report)
    assert report.run.scanned == len(cases)
    cannot = {case.key for case in cases if case.field_expiry and not has_field_expiry(target)}
    failed = [json.loads(line) for line in failures.read_text().splitlines()]
    assert len(failed) == report.run.failed == len(cannot)
    assert all("--drop-field-expiry" in failure["reason"] for failure in failed)
    found = compared(source, target, ignore=lost_aspects(source, target), expiry_tolerance_ms=0)
    assert {difference.key for difference in found.differences} == cannot
    assert {difference.aspect for difference in found.differences} <= {"missing"}
    assert found.keys_target == len(cases) - len(cannot)


def test_without_field_expiry_everything_arrives(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    if not has_field_expiry(source) or has_field_expiry(target):
        pytest.skip("nothing is lost between these two")
    cases = [case for case in cases_for(source.binary.version, source.binary.family) if case.type == "hash"]
    with source.session() as session:
        build(session, cases)
    report = Copying(tmp_path / "state").run(source, target, drop_field_expiry=True)
    assert report.run.failed == 0
    assert report.notes == {"field_expiry": sum(case.field_expiry for case in cases)}
    assert_equal(source, target, ignore=("field-expiry",))


def test_what_an_older_target_cannot_hold_of_a_stream_is_said(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-6.2")
    fill(
        source,
        [
            ("XADD", "s", "1-1", "a", "1"),
            ("XADD", "s", "2-1", "a", "2"),
            ("XDEL", "s", "1-1"),
            ("XGROUP", "CREATE", "s", "g", "0"),
            ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "s", ">"),
        ],
    )
    report = Copying(tmp_path / "state").run(source, target)
    assert report.run.copied == 1
    assert report.notes == {"entries_added": 1, "entries_read": 1, "max_deleted_id": 1}
    assert_equal(source, target, ignore=COUNTERS)


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("count", [0, 1, 40, 1000, 1001, 20_000])
def test_any_number_of_keys(count: int, flushed: Callable[..., Server], tmp_path: Path) -> None:
    """40: fewer reply bytes than a batch's estimate, which once was waited for in vain."""
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    if count:
        fill_strings(source, count)
    report = Copying(tmp_path / "state").run(source, target)
    assert_consistent(report)
    assert report.run.copied == count
    assert report.seconds < 5
    assert assert_equal(source, target).keys_target == count
    assert not list((tmp_path / "state").iterdir())


@pytest.mark.parametrize("batch", [1, 7, 100_000])
def test_any_batch(batch: int, flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-6.2"), flushed("valkey-9.1")
    fill_strings(source, 2000)
    ask(source, "PEXPIRE", "key:7", 100_000)
    report = Copying(tmp_path / "state").run(source, target, batch=batch)
    assert report.run.copied == 2000
    assert_equal(source, target)


def test_sizes_that_change_from_key_to_key(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    sizes = [0, 1, 100, 5_000, 300_000, 3_000_000]
    fill(source, [("SET", f"k{i}", b"%d" % (i % 10) * sizes[i % len(sizes)]) for i in range(120)])
    report = Copying(tmp_path / "state").run(source, target)
    assert report.run.copied == 120
    assert_equal(source, target)


def test_a_key_that_the_target_cannot_hold_fails_alone(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("valkey-9.1"), flushed("redis-7.0")
    fill_strings(source, 100)
    fill(source, [("HSET", "h", "f", "v"), ("HPEXPIRE", "h", 10_000_000, "FIELDS", 1, "f")])
    failures = tmp_path / "failures.jsonl"
    report = Copying(tmp_path / "state").run(source, target, failures_file=failures)
    assert (report.run.copied, report.run.failed) == (100, 1)
    (line,) = failures.read_text().splitlines()
    record = json.loads(line)
    assert (record["key"], record["key_base64"], record["database"]) == ("h", "aA==", 0)
    assert "--drop-field-expiry" in record["reason"]


@pytest.mark.usefixtures("twin")
def test_requests_that_do_not_fit_into_the_socket(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Long names with short values: the source has to be written to in portions."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", b"%06d" % i * 1_000, b"%d" % i) for i in range(6_000)])
    copying = Copying(tmp_path / "state")
    report = copying.run(source, target, batch=5_000)
    assert report.run.copied == 6_000
    assert copying.told == []
    assert_equal(source, target)
