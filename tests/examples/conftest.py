"""Two empty servers of different makes, and a recipe between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recipes import Recipe

from keyferry.testing.servers import Server


@pytest.fixture
def recipe(flushed: Callable[..., Server], tmp_path: Path) -> Recipe:
    return Recipe(flushed("redis-7.0"), flushed("valkey-9.1"), tmp_path)
