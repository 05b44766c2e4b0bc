"""redis-py: one line is another one."""

from __future__ import annotations

from servers import NEW, OLD, PHASE

from keyferry import Redis

# was: r = redis.Redis.from_url(OLD, decode_responses=True)
r = Redis.from_urls(OLD, NEW, **PHASE, decode_responses=True)


def visit(page: str, visitor: str) -> int:
    """Counts a visit; how many there were today."""
    with r.pipeline() as pipe:
        pipe.incr(f"visits:{page}")
        pipe.expire(f"visits:{page}", 86_400)
        pipe.zincrby("pages", 1, page)
        pipe.xadd("visitors", {"page": page, "visitor": visitor}, maxlen=1_000)
        return int(pipe.execute()[0])


def draw_winner() -> str | None:
    """Takes one of those who take part, by chance: the same one on both servers."""
    with r.lock("draw", timeout=5):
        return r.spop("takes-part")


if __name__ == "__main__":
    r.sadd("takes-part", "ann", "bob", "eve")
    for number in range(3):
        print("visit", visit("home", f"visitor {number}"))
    print("winner", draw_winner())
    print(r.migration)
    r.close()
