"""Every recipe of examples/ runs in the phase dual, and what it wrote is on both servers."""

from __future__ import annotations

import re

from recipes import EXAMPLES, Recipe

DJANGO = """
from django.conf import settings
import {module} as ours
settings.configure(CACHES=ours.CACHES)
from django.core.cache import cache
cache.set("greeting", {{"hello": "world"}}, timeout=300)
cache.set_many({{"a": 1, "b": 2}}, timeout=300)
assert cache.add("once", "first", timeout=300) and not cache.add("once", "second")
cache.set("counter", 1, timeout=300)
assert cache.incr("counter", 4) == 5
cache.delete("a")
assert cache.touch("b", 600)
assert cache.get_many(["greeting", "b", "a"]) == {{"greeting": {{"hello": "world"}}, "b": 2}}
from threading import Thread
thread = Thread(target=lambda: cache.set("of a thread", 1, timeout=300))
thread.start(); thread.join()
print(cache.get("once"))
"""


def test_plain(recipe: Recipe) -> None:
    said = recipe.python("plain.py").splitlines()
    assert said[:3] == ["visit 1", "visit 2", "visit 3"]
    assert said[3].removeprefix("winner ") in ("ann", "bob", "eve")
    assert ": dual, epoch " in said[4]
    assert recipe.on_both("GET", "visits:home") == b"3"
    assert recipe.on_both("SCARD", "takes-part") == 2
    assert recipe.on_both("XLEN", "visitors") == 3
    assert not recipe.differing()


def test_fastapi(recipe: Recipe) -> None:
    said = recipe.python(
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        "from fastapi.testclient import TestClient\n"
        "from fastapi_app import app\n"
        "with TestClient(app) as client:\n"
        "    for _ in range(3): count = client.post('/carts/ann/apple').json()['count']\n"
        "    print(count, client.get('/carts/ann').json())\n",
    )
    assert said == "3 {'apple': '3'}\n"
    assert recipe.on_both("HGET", "cart:ann", "apple") == b"3"
    assert not recipe.differing()


def test_django_cache(recipe: Recipe) -> None:
    assert recipe.python("-c", DJANGO.format(module="django_cache")) == "first\n"
    assert recipe.content() == 5
    assert not recipe.differing()


def test_django_redis(recipe: Recipe) -> None:
    assert recipe.python("-c", DJANGO.format(module="django_redis_cache")) == "first\n"
    assert recipe.on_both("EXISTS", ":1:greeting", ":1:b", ":1:once", ":1:of a thread") == 4
    # Its incr is a script, which is reported and not repeated.
    assert recipe.differing() == {b":1:counter"}
    recipe.settle()
    assert not recipe.differing()


def test_flask_caching(recipe: Recipe) -> None:
    said = recipe.python(
        "-c",
        "from flask_app import app\n"
        "first, second = (app.test_client().get('/slow').text for _ in range(2))\n"
        "print(first == second, first)\n",
    )
    assert said.startswith("True computed at ")
    assert recipe.content() == 1
    assert not recipe.differing()


def test_the_page_says_what_the_recipes_do() -> None:
    page = (EXAMPLES.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    files = {file.name: _plain(file.read_text(encoding="utf-8")) for file in EXAMPLES.glob("*.py")}
    for name in files.keys() - {"servers.py"}:
        assert f"(../examples/{name})" in page, name
    blocks = re.findall(r"(?:^    .*\n)+", page, re.MULTILINE)
    assert len(blocks) > 10
    for block in blocks:
        assert any(_plain(block) in text for text in files.values()), block


def _plain(code: str) -> str:
    """Without the depth of its lines."""
    return "\n".join(line.strip() for line in code.strip().splitlines())
