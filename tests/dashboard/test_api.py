"""The dashboard's process between a real migration and whoever asks."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from serving import (
    ANSWERS_WITHIN_S,
    LOOPBACK,
    TOKEN,
    Dashboard,
    Shop,
    dashboard,
    idle_dashboard,
    migrating_shop,
)

from keyferry.app.dashboard.live import blank_status
from keyferry.app.dashboard.models import (
    Act,
    AnswerShape,
    Cutover,
    HealthShape,
    HistoryShape,
    Nothing,
    ReportShape,
    StatusShape,
    Switch,
    Throttle,
)
from keyferry.cutover.requests import COMMANDS, LOOKS
from keyferry.cutover.showing import status_of
from keyferry.follow.showing import sync_status_of
from keyferry.model.keynames import KeyNames
from keyferry.model.phases import Phase, Side
from keyferry.model.writers import WriterEntry, WriterFacts
from keyferry.telemetry.following import BigKey, FailedKey, HotKey, ShardLook, SyncProgress
from keyferry.telemetry.migrating import MigrationProgress, SwitchReport, Verified
from keyferry.telemetry.samples import COLUMNS
from keyferry.testing.binaries import ServerBinary

OPTIONS: dict[str, type[BaseModel]] = {
    "pause": Nothing,
    "unpause": Nothing,
    "throttle": Throttle,
    "verify": Nothing,
    "cutover": Cutover,
    "rollback": Switch,
    "finish": Act,
    "abort": Act,
}
HOOKS = {"on_cutover", "on_rollback"}
"""Commands of a shell, which nobody may give from afar."""


@pytest.fixture(scope="module")
def shop(binaries: dict[str, ServerBinary]) -> Iterator[Shop]:
    """For tests that leave it as it is."""
    with migrating_shop(binaries) as running:
        yield running


@pytest.fixture(scope="module")
def board(shop: Shop) -> Iterator[Dashboard]:
    """Of the shop, once that is verified. For tests that leave it as it is."""
    with dashboard(shop.control) as running:
        running.wait_until("it is verified", lambda status: status["verification"] is not None)
        yield running


def check_whole(shape: type[BaseModel], data: object) -> None:
    """Both ways: nothing is said that is not documented, nothing documented is left out."""
    shape.model_validate_json(json.dumps(data), strict=True)


def test_what_is_served_has_the_documented_shape(board: Dashboard) -> None:
    status = board.get("/api/status").json
    check_whole(StatusShape, status)
    assert (status["kind"], status["name"], status["progress"]["failed"]) == ("migrate", "shop", 0)
    assert set(status["limits"]) == {"max_rate", "max_latency_ms"}
    happens("there is a row", lambda: board.get("/api/history").json["rows"])
    history = board.get("/api/history").json
    check_whole(HistoryShape, history)
    assert history["columns"] == list(COLUMNS)
    newest_ms = history["rows"][-1][0]
    newer = board.get(f"/api/history?after_ms={newest_ms}").json["rows"]
    assert all(row[0] > newest_ms for row in newer)
    health = board.get("/healthz")
    check_whole(HealthShape, health.json)
    assert (health.status, health.json["ok"]) == (200, True)
    metrics = board.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert b'keyferry_up{migration="shop"} 1.0' in metrics.body


def test_a_run_that_has_said_nothing_has_the_same_shape() -> None:
    for kind in ("migrate", "sync"):
        check_whole(StatusShape, {**blank_status(kind, "shop"), "age_seconds": 0.0})
    with idle_dashboard() as (_, board):
        status = board.get("/api/status").json
        none = board.get("/api/report")
    check_whole(StatusShape, status)
    assert status["stage"] == "following"
    check_whole(AnswerShape, none.json)
    assert none.status == 404 and none.json["sentence"]


def test_what_is_rarely_there_is_documented_too() -> None:
    sync = SyncProgress(
        stage="following",
        feed="tracking",
        generation=1,
        keys_total=10,
        keys_done=5,
        keys_per_second=1.0,
        seconds_left=5.0,
        changes_per_second=1.0,
        dirty_keys=1,
        lag_s=0.5,
        settled_keys=3,
        settled_per_second=1.0,
        cutover_s=0.1,
        hottest=(HotKey(b"hot", 0, 2.5, 100, 0.5),),
        foreign_keys=1,
        failed=1,
        elapsed_s=1.0,
        source_latency_ms=0.2,
        target_latency_ms=0.3,
        throttle="free",
        shards=2,
        biggest=(BigKey(b"big", 0, 1 << 30, 1000, "hash"),),
        shard_looks=(ShardLook("127.0.0.1:7000", 1, "tracking", 5, 2, 0.2),),
        failures=(FailedKey(b"bad", 0, "It is too new."),),
    )
    facts = WriterFacts("web-1", 7, "app", "redis-py 6.4")
    writer = WriterEntry(facts, 5000, phase=Phase.DUAL, epoch=2, connections={Side.SOURCE: ("7",)})
    switch = SwitchReport("cutover", 1, "pause", "done", 12.5, [("hold", 0.001)], warnings=["Look."])
    status = status_of(
        MigrationProgress(sync, "following", verified=Verified(1, 10, 0)),
        name="shop",
        source="127.0.0.1:1",
        target="127.0.0.1:2",
        pid=1,
        limits={"max_rate": None, "max_latency_ms": 2.0},
        touched=1,
        writers={"a": writer},
        switches=(switch,),
        barred="",
        warnings=("Look.",),
        events=((1, "It began."),),
    )
    check_whole(StatusShape, {**status, "age_seconds": 0.1})
    assert all(status["progress"][name] for name in ("hottest", "biggest", "shard_looks"))
    assert status["writers"] and status["switches"] and status["failures"]["last"] and status["events"]
    follows = sync_status_of(
        sync,
        name="",
        source="127.0.0.1:1",
        target="127.0.0.1:2",
        pid=1,
        started_ms=1,
        limits={},
        names=KeyNames(show=True),
    )
    check_whole(StatusShape, {**follows, "age_seconds": 0.1})


def test_the_report_so_far_is_there_for_programs_and_people(board: Dashboard) -> None:
    report = board.get("/api/report")
    check_whole(ReportShape, report.json)
    assert (report.json["name"], report.json["ended"]) == ("shop", "")
    page = board.get("/report")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    assert "script-src" not in page.headers["content-security-policy"]
    assert b"shop" in page.body and b"<script" not in page.body


def test_every_path_and_field_is_documented(board: Dashboard) -> None:
    document = board.get("/openapi.json").json
    assert {"/api/status", "/api/history", "/api/report", "/api/events", "/healthz", "/metrics"} <= set(
        document["paths"]
    )
    acting = {path.removeprefix("/api/actions/") for path in document["paths"] if "actions" in path}
    assert acting == set(COMMANDS) - LOOKS == set(OPTIONS)
    for command in acting:
        assert document["paths"][f"/api/actions/{command}"]["post"]["security"]
    shapes = document["components"]["schemas"]
    for field, its in shapes["StatusShape"]["properties"].items():
        assert its.get("description") or its.get("$ref"), field
    # Swagger's own page would load scripts from elsewhere.
    assert board.get("/docs").status == board.get("/redoc").status == 404


def test_an_action_takes_what_the_command_takes_but_no_shell_command() -> None:
    for command, shape in OPTIONS.items():
        assert set(shape.model_fields) == set(COMMANDS[command]) - HOOKS
        for name, option in COMMANDS[command].items():
            assert name in HOOKS or shape.model_fields[name].default == option.default


def test_actions_answer_as_the_commands_do(board: Dashboard) -> None:
    looked = board.act("cutover")
    check_whole(AnswerShape, looked.json)
    assert looked.status == 200 and looked.json["facts"]["lines"], looked
    assert board.act("pause").json["exit_code"] == 0
    board.wait_until("it is paused", lambda status: bool(status["paused"]))
    assert board.act("unpause").status == 200
    board.wait_until("it goes on", lambda status: not status["paused"])
    limited = board.act("throttle", max_rate=5000, max_latency_ms=None)
    assert limited.status == 200 and "5,000" in limited.json["sentence"]
    assert board.act("throttle", max_rate=0).status == 200
    refused = board.act("rollback", yes=True)
    assert (refused.status, refused.json["exit_code"]) == (409, 4) and refused.json["sentence"]
    for options in (
        {"on_cutover": "id"},
        {"gate": "door"},
        {"yes": "please"},
        {"yes": 1},
        {"rollback": "no"},
        {"timeout_s": 0},
        {"timeout_s": "5"},
    ):
        wrong = board.act("cutover", **options)
        check_whole(AnswerShape, wrong.json)
        assert (wrong.status, wrong.json["exit_code"]) == (422, 2), wrong
        assert next(iter(options)) in wrong.json["sentence"]
    for body in (b"", b"{", b"[]", b"null"):
        given = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        assert board.request("POST", "/api/actions/cutover", body, given).status == 422


def test_events_begin_with_everything_and_go_on(board: Dashboard) -> None:
    with board.events() as events:
        assert events.answer.getheader("Content-Type", "").startswith("text/event-stream")
        seen: dict[str, Any] = {}
        while {"status", "history"} - set(seen):
            event = events.next()
            assert event is not None
            if event[0] == "status" or event[1]["rows"]:
                seen.setdefault(*event)
        check_whole(StatusShape, seen["status"])
        assert isinstance(seen["history"].pop("whole"), bool)
        check_whole(HistoryShape, seen["history"])
        assert board.act("pause").status == 200
        while not events.until("status")["paused"]:
            pass
        assert board.act("unpause").status == 200
        later = events.until("history")
        assert later["whole"] is False and later["rows"][0][0] > seen["history"]["rows"][-1][0]


def test_one_that_comes_back_has_all_of_it(board: Dashboard) -> None:
    with board.events() as events:
        while not (first := events.until("history")["rows"]):
            pass
    with board.events() as events:
        again = events.until("history")
    assert again["whole"] is True
    assert again["rows"][: len(first)] == first


def test_the_end_is_told_to_everybody_and_ends_it(shop: Shop) -> None:
    with dashboard(shop.control) as board, board.events() as one, board.events() as other:
        one.until("status")
        board.end(exit_code=0, sentence="It is over.", hint="", report="r.html")
        end = {"exit_code": 0, "sentence": "It is over.", "hint": "", "report": "r.html", "died": False}
        assert one.until("ended") == end == other.until("ended")
        assert one.next() is None
        assert board.has_ended() == (0, "")


def test_a_migration_that_stands_still_then_dies_and_is_started_again(
    binaries: dict[str, ServerBinary],
) -> None:
    with migrating_shop(binaries) as shop, dashboard(shop.control) as board, board.events() as events:
        board.wait_for("/healthz", 200)
        shop.process.send_signal(signal.SIGSTOP)
        health = board.wait_for("/healthz?within_s=2", 503).json
        assert not health["ok"] and health["age_seconds"] > 2 and health["stage"]
        # What it last said is still there, with its age.
        assert board.get("/api/status").json["age_seconds"] > 2
        shop.process.send_signal(signal.SIGCONT)
        board.wait_for("/healthz?within_s=2", 200)
        shop.process.kill()
        shop.process.wait()
        board.end()
        died = events.until("ended")
        assert died == {"exit_code": None, "sentence": "", "hint": "", "report": "", "died": True}
        assert board.has_ended() == (0, "")
        with dashboard(shop.control, board.port) as again:
            assert again.get("/healthz").status == 503
            assert again.get("/api/status").status == 503
            # Nobody answers for it.
            lost = again.act("pause")
            assert (lost.status, lost.json["exit_code"]) == (502, 3) and "shop" in lost.json["sentence"]


def test_what_has_not_begun_is_withdrawn_when_whoever_asked_goes() -> None:
    with idle_dashboard() as (idle, board):
        with socket.create_connection((LOOPBACK, board.port)) as browser:
            browser.sendall(
                b"POST /api/actions/cutover HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer " + TOKEN.encode() + b'\r\nContent-Length: 13\r\n\r\n{"yes": true}'
            )
            happens("it is asked for", lambda: idle.desk.tickets)
            assert not idle.desk.tickets[0].ended
        happens("it is withdrawn", lambda: idle.desk.tickets[0].ended)
        assert idle.desk.take() is None


def happens(what: str, holds: Callable[[], object]) -> None:
    until_s = time.monotonic() + ANSWERS_WITHIN_S
    while not holds():
        assert time.monotonic() < until_s, what
        time.sleep(0.02)


def test_the_token_and_the_process_keep_to_themselves(board: Dashboard) -> None:
    for path in (
        "/",
        "/static/app.js",
        "/api/status",
        "/api/history",
        "/openapi.json",
        "/metrics",
        "/healthz",
    ):
        assert TOKEN.encode() not in board.get(path).body
    process = Path("/proc") / str(board.process.pid)
    if process.exists():
        title = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert TOKEN.encode() not in title and b"keyferry dashboard shop" in title
        assert os.getpriority(os.PRIO_PROCESS, board.process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        # Where memory is short it goes, and the migration stays.
        if os.access(process / "oom_score_adj", os.W_OK):
            assert (process / "oom_score_adj").read_text() == "1000\n"
