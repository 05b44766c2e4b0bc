"""Step 2 of a migration: the keys that were there already (scan, pace, checkpoint)."""
