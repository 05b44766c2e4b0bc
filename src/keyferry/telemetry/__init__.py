"""Progress, counts and events as plain values."""
