"""``keyferry audit``: which commands the application uses, and what they would meet in the phase dual."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keyferry.app.delivery import deliver, errors_delivered
from keyferry.app.display_audit import AuditView
from keyferry.app.output import check_writable, emit
from keyferry.app.screen import Screen, open_screen
from keyferry.app.settings import SideOptions, address_map, endpoint
from keyferry.app.signals import stopping
from keyferry.app.summary_audit import of_audit
from keyferry.capture.audit import AuditReport
from keyferry.capture.audit_run import COST, AuditProgress, AuditSettings, run_audit
from keyferry.capture.tap import TapLimits
from keyferry.copy.deployment import Deployment, discover
from keyferry.copy.stop import StopFlag
from keyferry.model.errors import InterruptedRun, Side, UsageError

TOO_EARLY = "Interrupted before anything was seen."


def audit_command(source: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        KeyferryError: A server cannot be reached, or shows nothing of its commands.
    """
    check_writable("--report", options["report"])
    if options["show_keys"] and not options["monitor"]:
        raise UsageError("--show-keys is given without --monitor.", "Only a sample of MONITOR has key names.")
    if options["target"] is None and SideOptions.of("target", options) != SideOptions():
        raise UsageError(
            "Options for the target are given without --target.", "Give its address with --target."
        )
    screen = open_screen(f"keyferry audit {_shown(source, options)}", AuditView())
    with errors_delivered(options, TOO_EARLY, dict):
        report = _run(source, options, screen)
    deliver(report.as_dict(), options)
    if not options["as_json"]:
        emit(of_audit(report))
    return report.exit_code


def _shown(source: str, options: Mapping[str, Any]) -> str:
    return str(endpoint("source", source, SideOptions.of("source", options), os.environ))


def _run(source: str, options: Mapping[str, Any], screen: Screen[AuditProgress]) -> AuditReport:
    """Looks under ``screen`` and under the signal handlers."""
    stop = StopFlag()

    def check_stop() -> None:
        if stop.requested:
            raise InterruptedRun(TOO_EARLY)

    with stopping(stop), screen:
        deployment = _deployment("source", source, options, check_stop)
        target_cluster = None
        if options["target"] is not None:
            target_cluster = _deployment("target", options["target"], options, check_stop).cluster
        settings = AuditSettings(
            seconds=options["seconds"],
            tap=_limits(options) if options["monitor"] else None,
            show_keys=options["show_keys"],
            target_cluster=target_cluster,
        )
        if settings.tap is not None:
            screen.tell(_cost(settings.tap))
        nodes = [deployment.endpoint(shard.id) for shard in deployment.shards]
        return run_audit(nodes, settings, observe=screen.observe, stop=stop)


def _deployment(side: Side, url: str, options: Mapping[str, Any], check_stop: Any) -> Deployment:
    found = endpoint(side, url, SideOptions.of(side, options), os.environ)
    return discover(found, side, address_map(side, options), check_stop)


def _limits(options: Mapping[str, Any]) -> TapLimits:
    usual = TapLimits()
    return replace(usual, seconds=min(usual.seconds, options["seconds"]), rise_ms=options["max_latency"])


def _cost(limits: TapLimits) -> str:
    guard = (
        f", and at once when it answers {limits.rise_ms:g} ms later than at rest" if limits.rise_ms else ""
    )
    return COST.format(
        seconds=limits.seconds, lines=limits.lines_max, megabytes=limits.bytes_max // 10**6, guard=guard
    )
