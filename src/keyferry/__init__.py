"""Keyferry moves the data of a live Redis-compatible server to another one without downtime."""

__version__ = "0.1.0"
