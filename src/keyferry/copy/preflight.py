"""Judges the facts about both servers: findings in the order in which people ask. Pure."""

from __future__ import annotations

from keyferry.copy.facts import CheckRequest, Facts
from keyferry.copy.finding import Finding
from keyferry.copy.judge_access import access
from keyferry.copy.judge_cluster import clusters
from keyferry.copy.judge_data import data
from keyferry.copy.judge_use import use
from keyferry.payload.plan import PayloadPlan


def judge(facts: Facts, request: CheckRequest) -> list[Finding]:
    """Everything there is to say, good and bad."""
    plan = plan_of(facts, request)
    return [
        *access(facts, request, plan),
        *clusters(facts),
        *data(facts, request, plan),
        *use(facts, request),
    ]


def plan_of(facts: Facts, request: CheckRequest) -> PayloadPlan:
    return PayloadPlan(
        facts.source.server.identity,
        facts.target.server.identity,
        target_modules=facts.target.server.modules or frozenset(),
        drop_field_expiry=request.drop_field_expiry,
    )
