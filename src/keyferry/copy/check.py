"""``keyferry check``: looks at both servers before anything moves, and says ok, warning or stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keyferry.copy.deployment import discover
from keyferry.copy.facts import CheckRequest, Facts, NodeFacts, ServerFacts
from keyferry.copy.finding import Finding
from keyferry.copy.identify import ClockOffset, between
from keyferry.copy.judge_data import needed_bytes, payload_ways
from keyferry.copy.preflight import judge, plan_of
from keyferry.copy.survey import survey_source, survey_target
from keyferry.model.address import Endpoint
from keyferry.model.errors import ExitCode, RefusedError


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the check found, and the facts that it rests on."""

    request: CheckRequest
    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def stops(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "stop")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "warning")

    @property
    def exit_code(self) -> ExitCode:
        """DONE where nothing stops a copy, REFUSED where something does."""
        return ExitCode.REFUSED if self.stops else ExitCode.DONE

    @property
    def keys(self) -> int | None:
        """Keys in the selected databases of the source, before --match; None when INFO does not tell."""
        keyspace = self.facts.source.server.keyspace
        if keyspace is None:
            return None
        return sum(keyspace[db].keys for db in self.facts.source.selected if db in keyspace)

    @property
    def data_bytes(self) -> int | None:
        """About the memory that those keys take on the source."""
        return needed_bytes(self.facts)

    def payload_ways(self) -> dict[str, list[str]]:
        """``restore``, ``resigned``, ``transcoded``, ``logical``, ``impossible`` -> names of types."""
        ways = payload_ways(plan_of(self.facts, self.request), self.request)
        return {method.name.lower(): names for method, names in ways.items()}

    def raise_if_stopped(self) -> None:
        """
        Raises:
            RefusedError: Something stops a copy; says what and what to do, one line per finding.
        """
        if self.stops:
            sentences = " ".join(finding.sentence for finding in self.stops)
            raise RefusedError(sentences, " ".join(finding.advice for finding in self.stops))

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        source, target, clock = self.facts.source.server, self.facts.target.server, self.facts.clock
        return {
            "verdict": "stop" if self.stops else "warning" if self.warnings else "ok",
            "stops": len(self.stops),
            "warnings": len(self.warnings),
            "source": _server(source),
            "target": _server(target),
            "keys": self.keys,
            "bytes": self.data_bytes,
            "payloads": self.payload_ways(),
            "clock_offset_ms": round(clock.offset_ms, 3) if clock else None,
            "clock_uncertainty_ms": round(clock.uncertainty_ms, 3) if clock else None,
            "feeds": {feed.name: feed.state for feed in self.facts.source.feeds},
            "findings": [finding.as_dict() for finding in self.findings],
        }


def run_check(source: Endpoint, target: Endpoint, request: CheckRequest) -> CheckReport:
    """Looks at both sides; writes nothing but one probe key on every server of the target, which it deletes.

    Raises:
        UsageError: An address says that it is a cluster, and it is none.
        ServerError: A server cannot be reached, refuses us, or a connection broke; or slots have no owner.
    """
    source_side = discover(source, "source", request.source_map)
    target_side = discover(target, "target", request.target_map)
    source_facts = survey_source(source_side, request)
    target_facts = survey_target(target_side, request, source_facts)
    clock = _worst_difference(source_facts.server.nodes, target_facts.server.nodes)
    facts = Facts(source_facts, target_facts, clock)
    return CheckReport(request, facts, tuple(judge(facts, request)))


def _worst_difference(source: tuple[NodeFacts, ...], target: tuple[NodeFacts, ...]) -> ClockOffset | None:
    """The largest difference between a server of one side and one of the other; None when one refuses TIME."""
    clocks = [node.clock for node in source], [node.clock for node in target]
    pairs = [between(one, other) for one in clocks[0] for other in clocks[1] if one and other]
    if len(pairs) < len(source) * len(target):
        return None
    return max(pairs, key=lambda offset: abs(offset.offset_ms), default=None)


def _server(facts: ServerFacts) -> dict[str, Any]:
    return {
        "address": facts.address,
        "server": str(facts.identity),
        "rdb_version": facts.identity.rdb_version,
        "cluster": facts.cluster,
        "primaries": len(facts.nodes) + facts.nodes_left_out,
    }


__all__ = ["CheckReport", "CheckRequest", "Finding", "run_check"]
