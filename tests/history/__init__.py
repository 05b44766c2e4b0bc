"""The history checker: applications in many processes write everything that they do into a file, a migration moves
their data under them, and afterwards every acknowledged write is held against what is there.

    python -m tests.history --seed 7 --seconds 60

- ``drawing`` chooses operations on all data types with unique values, ``application`` runs them through the
  clients, ``events`` is the file that they are recorded in.
- ``registers``, ``counters``, ``bags``, ``streams``, ``owned``, ``accounts`` judge a history, without I/O;
  ``checker`` calls them all.
- ``migrating`` drives the command line as a user does, ``faults`` disturbs, ``scenes`` puts both together.
"""
