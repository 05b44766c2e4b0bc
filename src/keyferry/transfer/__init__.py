"""One batch of keys from one server to the other: fetch, convert, store, compare."""
