"""The recipes for job queues, with real workers that fork."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from recipes import Recipe

RQ = "import sys; from rq.cli import main; sys.argv = ['rq', *sys.argv[1:]]; main()"
CELERY = "import sys; from celery.__main__ import main; sys.argv = ['celery', *sys.argv[1:]]; main()"
WAIT_S = 90.0


def wait_until(ready: Callable[[], bool], recipe: Recipe) -> None:
    until_s = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < until_s, recipe.log
        time.sleep(0.1)


def test_rq_jobs_run_in_forked_processes(recipe: Recipe) -> None:
    put = (
        "from rq_connection import queue\n"
        "from rq_jobs import count_words\n"
        "from datetime import timedelta\n"
        "for _ in range(3): queue.enqueue(count_words, 'one two two')\n"
        "queue.enqueue_in(timedelta(seconds=1), count_words, 'one')\n"
    )
    recipe.python("-c", put)
    assert recipe.on_both("LLEN", "rq:queue:default") == 3
    worker = ["worker", "--connection-class", "rq_connection.Connection", "--url", f"{recipe.old.url}/0"]
    with recipe.running("-c", RQ, *worker, "--with-scheduler") as process, recipe.old.session() as old:
        wait_until(lambda: old.call("GET", "texts") == b"4", recipe)
        wait_until(lambda: old.call("ZCARD", "rq:finished:default") == 4, recipe)
        assert process.poll() is None
    assert recipe.on_both("GET", "texts") == b"4"
    assert recipe.on_both("ZRANGE", "words", 0, -1, "WITHSCORES") == [b"one", b"4", b"two", b"6"]
    assert recipe.on_both("ZCARD", "rq:finished:default") == 4
    assert recipe.on_both("LLEN", "rq:queue:default") == 0
    recipe.settle()
    assert not recipe.differing()


@pytest.mark.parametrize("recipe", ["record"], indirect=True)
def test_an_rq_worker_goes_with_the_switch(recipe: Recipe) -> None:
    put = "from rq_connection import queue\nfrom rq_jobs import count_words\nqueue.enqueue(count_words, 'one two')\n"
    worker = ["worker", "--connection-class", "rq_connection.Connection", "--url", f"{recipe.old.url}/0"]
    with recipe.running("-c", RQ, *worker) as process, recipe.new.session() as new:
        recipe.python("-c", put)
        wait_until(lambda: new.call("GET", "texts") == b"1", recipe)
        recipe.switch()
        recipe.python("-c", put)
        wait_until(lambda: new.call("GET", "texts") == b"2", recipe)
        wait_until(lambda: new.call("ZCARD", "rq:finished:default") == 2, recipe)
        assert process.poll() is None
    assert recipe.on_both("GET", "texts") == b"2"
    assert recipe.on_both("LLEN", "rq:queue:default") == 0


def test_celery_results(recipe: Recipe) -> None:
    # The broker is a third thing; a database of its own keeps it out of the comparison.
    recipe.more["BROKER"] = f"{recipe.old.url}/1"
    ask = (
        "from celery_app import add\n"
        "from celery import group\n"
        "print(add.delay(2, 3).get(timeout=30))\n"
        "print(sorted(group(add.s(i, i) for i in range(4))().get(timeout=30)))\n"
    )
    with recipe.running("-c", CELERY, "-A", "celery_app", "worker", "--concurrency", "2"):
        said = recipe.python("-c", ask)
    assert said == "5\n[0, 2, 4, 6]\n"
    assert recipe.content() == 5
    assert not recipe.differing()
