"""Rates from running totals."""

from __future__ import annotations

from keyferry.telemetry.meter import Meter


def test_a_total_that_begins_anew_has_no_rate_below_zero() -> None:
    meter = Meter()
    meter.mark(0.0, 9_000)
    meter.mark(1.0, 10_000)
    assert meter.rate(1.0, 10_000) == 1_000
    # Asked before it is marked, and after.
    assert meter.rate(2.0, 5) == 0.0
    meter.mark(2.0, 5)
    assert meter.rate(3.0, 205) == 200
