"""Function libraries, which belong to no database and which no feed names."""

from __future__ import annotations

from keyferry.copy.connect import Sides
from keyferry.copy.functions import copy_functions
from keyferry.model.errors import ServerAway, ServerError
from keyferry.telemetry.progress import Teller


def carry_functions(sides: Sides, tell: Teller) -> None:
    """Makes every primary of the target hold what the source holds; a refusal is told.

    Raises:
        ServerAway: A server cannot be reached now.
    """
    carried = 0
    try:
        with sides.session("source") as source:
            for shard in sides.target.shards:
                with sides.session("target", shard=shard.id) as target:
                    version = sides.plan.target_version
                    carried = copy_functions(source, target, policy="FLUSH", target_version=version)
    except ServerAway:
        raise
    except ServerError as error:
        tell(f"The functions could not be carried. {error}")
        return
    tell(f"Carried {carried} function {'library' if carried == 1 else 'libraries'}.")
