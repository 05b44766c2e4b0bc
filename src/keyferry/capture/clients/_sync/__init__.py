"""The threads' form of the clients, written by `make generate`."""
