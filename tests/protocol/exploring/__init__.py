"""A small world in which every order of events is tried: two servers, writers, feeds, a settler, coordinators.

It runs the tables that the product runs: the records and their changes (model.record), the way to authority
(model.record_trail), the phases (model.phases) and the planner of a switch (cutover.plan). What is around them is
drawn here, one event at a time: a leg that is under way, a name in a feed, a read, a write of the settler, a step of a
coordinator, a fault. Time is only order: a lease, a pause and a wait may end at any moment.

    search.py     every state that can come to be, and the way to the first that must not
    world.py      what there is: values, servers, writers, runs, coordinators; what is set, what is broken on purpose
    tables.py     the product's tables, by small numbers
    writing.py    writers: a look, first leg, judgement of its reply, second leg; plain clients
    following.py  feeds, fences, the settler, the ledger
    leading.py    coordinators: the planner's steps, done and undone; start after a death
    faults.py     what may go wrong, as often as a setting allows
    model.py      the parts together, and what must never be
    programs.py   short words for tests
    histories.py  whether what the application was told can be true
"""
