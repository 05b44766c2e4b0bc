"""Which keys of a live server change: feeds, and the set of dirty keys that they fill."""
