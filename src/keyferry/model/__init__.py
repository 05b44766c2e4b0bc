"""The words: plain values, tables and ports; no I/O, imports nothing of ours."""
