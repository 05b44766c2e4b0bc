"""``keyferry check``: looks at both servers before anything moves, and says ok, warning or stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keyferry.copy.facts import CheckRequest, Facts
from keyferry.copy.finding import Finding
from keyferry.copy.identify import clock_offset
from keyferry.copy.judge_data import needed_bytes, payload_ways
from keyferry.copy.preflight import judge, plan_of
from keyferry.copy.survey import survey_source, survey_target
from keyferry.model.address import Endpoint
from keyferry.model.errors import ExitCode, RefusedError
from keyferry.wire.session import Session


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
            "source": _server(source.address, str(source.identity), source.identity.rdb_version),
            "target": _server(target.address, str(target.identity), target.identity.rdb_version),
            "keys": self.keys,
            "bytes": self.data_bytes,
            "payloads": self.payload_ways(),
            "clock_offset_ms": round(clock.offset_ms, 3) if clock else None,
            "clock_uncertainty_ms": round(clock.uncertainty_ms, 3) if clock else None,
            "feeds": {feed.name: feed.state for feed in self.facts.source.feeds},
            "findings": [finding.as_dict() for finding in self.findings],
        }


def run_check(source: Endpoint, target: Endpoint, request: CheckRequest) -> CheckReport:
    """Looks at both servers; writes nothing but one probe key on the target, which it deletes.

    Raises:
        ServerError: A server cannot be reached, refuses us, or a connection broke.
    """
    with Session(source, "source") as source_session, Session(target, "target") as target_session:
        clock = clock_offset(source_session, target_session)
        source_facts = survey_source(source_session, request)
        target_facts = survey_target(target_session, request, source_facts)
    facts = Facts(source_facts, target_facts, clock)
    return CheckReport(request, facts, tuple(judge(facts, request)))


def _server(address: str, identity: str, rdb_version: int) -> dict[str, Any]:
    return {"address": address, "server": identity, "rdb_version": rdb_version}


__all__ = ["CheckReport", "CheckRequest", "Finding", "run_check"]
