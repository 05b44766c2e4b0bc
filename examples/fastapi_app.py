"""FastAPI with redis.asyncio: one line is another one.

uvicorn fastapi_app:app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from servers import NEW, OLD, PHASE

from keyferry.asyncio import Redis


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # was: app.state.redis = redis.asyncio.Redis.from_url(OLD, decode_responses=True)
    app.state.redis = Redis.from_urls(OLD, NEW, **PHASE, decode_responses=True)
    yield
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/carts/{cart}/{item}")
async def add(cart: str, item: str, request: Request) -> dict[str, int]:
    redis: Redis = request.app.state.redis
    async with redis.pipeline() as pipe:
        pipe.hincrby(f"cart:{cart}", item, 1)
        pipe.expire(f"cart:{cart}", 3_600)
        count, _ = await pipe.execute()
    return {"count": count}


@app.get("/carts/{cart}")
async def show(cart: str, request: Request) -> dict[str, str]:
    redis: Redis = request.app.state.redis
    return await redis.hgetall(f"cart:{cart}")
