"""Two empty servers of different makes, and a recipe between them, in the phase dual: fixed, or by the shared record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recipes import Recipe

from keyferry.testing.servers import Server


@pytest.fixture(params=["fixed", "record"])
def recipe(request: pytest.FixtureRequest, flushed: Callable[..., Server], tmp_path: Path) -> Recipe:
    recipe = Recipe(flushed("redis-7.0"), flushed("valkey-9.1"), tmp_path)
    if request.param == "record":
        for phase in ("source", "dual"):
            recipe.step(phase)
        recipe.more["MIGRATION"] = "shop"
    return recipe
