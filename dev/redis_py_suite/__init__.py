"""redis-py's own test suite, with our class in the place of redis-py's: `make test-redis-py`.

A drop-in is one when nobody can tell. redis-py's authors have written down what its users rely on, in some three
thousand tests; they run once with redis-py itself and once per phase with our class, and every test must end the same.

    place      the suite fetched and unpacked, and a Python of its own to run it    left_out   what is not run, and why
    launch     two servers and one run of the suite                                 compare    which tests ended otherwise
    inside/    what runs within the suite's own pytest                              report     the table
"""
