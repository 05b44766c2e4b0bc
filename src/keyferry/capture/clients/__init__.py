"""Drop-in clients for redis-py that write to both servers of a migration.

    Command -> Route -> first leg on the authority, second leg on the mirror side -> Outcome

`_async` is written by hand, `_sync` is generated from it (`make generate`); what decides without I/O lies beside them
and is shared. The only home of redis-py.
"""
