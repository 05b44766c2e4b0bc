"""DUMP payloads: footer, CRC64, type table, re-sign, transcode, read and write as commands."""
