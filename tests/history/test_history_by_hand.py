"""The history checker on the smaller commands: a sync beside applications in all forms, and phases set by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from keyferry.testing.servers import Server

from .application import Form, Plan
from .by_hand import BEGUN, ByHand
from .checker import check
from .drawing import GROUP
from .final import read_final
from .processes import Applications

BEGINS_S = 60.0


def test_a_cutover_by_hand(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    migration = ByHand("history", source, target, tmp_path)
    with source.session() as session:
        session.call("XGROUP", "CREATE", "stream:0", GROUP, "0", "MKSTREAM")
    migration.phase("source")
    forms: tuple[Form, ...] = ("threads", "tasks")
    plans = [
        Plan(
            worker=number,
            workers=len(forms),
            form=form,
            urls={"source": source.url, "target": target.url},
            migration="history",
            path=str(tmp_path / f"app-{number}.jsonl"),
            seconds=60.0,
        )
        for number, form in enumerate(forms)
    ]
    with migration.sync() as tool, Applications(plans) as applications:
        deadline_s = time.monotonic() + BEGINS_S
        while BEGUN not in tool.said():
            assert tool.look() and time.monotonic() < deadline_s
            time.sleep(0.02)
        migration.phase("dual")
        time.sleep(1.0)
        migration.cutover(tool)
        time.sleep(1.0)
        history = applications.stop()
        with target.session() as session:
            final = read_final(session, history)
    findings = check(history, final)
    assert not findings, findings[:5]
    assert history.acknowledged() > 500
