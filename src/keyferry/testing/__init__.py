"""The shipped test kit: real servers, a fault proxy, a TLS terminator, data sets, a plain comparison."""
