"""Proving that two servers hold the same, while they live."""
