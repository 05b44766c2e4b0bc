"""What a browser sees of a running migration: a page, an API, events, metrics; a process of its own.

It knows the migration through its control socket alone, as ``keyferry status`` does, so that nothing here can slow or
end it. Needs the extra ``http``; only this package imports a web server.

    __main__   python -m keyferry.app.dashboard, started by the migration
    serve      the process: what it is handed, how it ends
    asking     the control socket, without blocking
    live       the newest look, for every browser at once
    acting     the buttons
    reports    the report so far
    guarding   who may ask
    api        what there is under which path; models: of which shape
"""
