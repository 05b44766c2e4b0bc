"""Measures Keyferry against the ways there are, in one run on one machine: ``python -m bench``."""
