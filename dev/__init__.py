"""Tools for those who work on Keyferry; nothing here is installed."""
