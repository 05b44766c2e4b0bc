"""What empties a server leaves the record of a migration where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis
from switching import Migration

import keyferry
import keyferry.asyncio
from keyferry.capture.clients.errors import RefusedError
from keyferry.model.phases import Phase
from keyferry.testing.servers import Server


@pytest.fixture
def migration(flushed: Callable[..., Server]) -> Iterator[Migration]:
    with Migration(flushed("redis-6.2"), flushed("redis-6.2", 1)) as one:
        yield one


@pytest.mark.parametrize("decodes", [False, True])
@pytest.mark.parametrize("phase", [Phase.SOURCE, Phase.DUAL])
def test_flushdb_keeps_the_record_and_names_everything(
    migration: Migration, phase: Phase, decodes: bool
) -> None:
    if phase is Phase.DUAL:
        migration.step(Phase.DUAL)
    urls = (migration.source.url, migration.target.url)
    with (
        keyferry.Redis.from_urls(*urls, migration=migration.name, decode_responses=decodes) as client,
        redis.Redis.from_url(urls[0]) as source,
    ):
        client.set(b"\xff binary", 1)
        assert client.flushdb() is True
        assert not [key for key in source.scan_iter() if not key.startswith(b"keyferry:")]
        assert client.set("after", 1) is True
        assert client.flushall(asynchronous=True) is True
        client.set("after", 2)
        assert client.migration is not None
        assert client.migration.phase is phase
        assert source.get("after") == b"2"
        assert source.exists(f"keyferry:{{{migration.name}}}:ledger:full") == 1


def test_the_same_with_tasks_and_steps_go_on_afterwards(migration: Migration) -> None:
    async def go() -> None:
        client = keyferry.asyncio.Redis.from_urls(
            migration.source.url, migration.target.url, migration=migration.name
        )
        await client.set("before", 1)
        assert await client.flushdb() is True
        await asyncio.to_thread(migration.step, Phase.DUAL)
        await client.set("after", 1)
        assert client.migration is not None
        assert client.migration.phase is Phase.DUAL
        await client.aclose()

    asyncio.run(go())
    with redis.Redis.from_url(migration.target.url) as target:
        assert target.get("after") == b"1"


def test_what_would_take_the_record_away_is_refused(migration: Migration) -> None:
    urls = (migration.source.url, migration.target.url)
    with keyferry.Redis.from_urls(*urls, migration=migration.name) as client:
        client.set("key", 1)
        with pytest.raises(RefusedError, match="SWAPDB is not done while the application follows"):
            client.swapdb(0, 1)
        with pytest.raises(RefusedError, match="FLUSHDB is not done in a pipeline"):
            client.pipeline().set("key", 2).flushdb().execute()
        assert client.get("key") == b"1"
