"""RESP bytes: codec, connections, sessions."""
