"""Metrics of the drop-in clients for Prometheus: `from keyferry.metrics import register`."""

from keyferry.capture.clients.metrics import NAMES, ClientCollector, register

__all__ = ["NAMES", "ClientCollector", "register"]
