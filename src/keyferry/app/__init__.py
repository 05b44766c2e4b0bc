"""The door: command line, settings, live display; the one place where parts are wired together."""
