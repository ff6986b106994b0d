"""Runs whose processes are gone: what has not been renewed in time is given up."""

from __future__ import annotations

import asyncio
import logging

from plumbline.registry.errors import DatabaseUnavailable
from registry_service import runs
from registry_service.calls import Calls

_log = logging.getLogger("plumbline.registry.leases")

#: How often leases are looked at.
LOOK_SECONDS = 5.0

# In one transaction.
_MOST_RUNS = 100

#: Who does what nobody asked for.
ACTOR = "registry"


async def expire_runs(calls: Calls, seconds: float = LOOK_SECONDS) -> None:
    """Looks for runs whose lease has ended, again and again, and makes them FAILED. Ends when cancelled."""
    while True:
        try:
            while await calls.read(lambda tx: bool(tx.runs.expired(calls.now(), 1))):
                count = await calls.act(ACTOR, lambda tx, act: runs.expire(tx, act, _MOST_RUNS))
                _log.info("gave up %d runs that were not renewed in time", count)
        except DatabaseUnavailable:
            _log.warning("leases could not be looked at; trying again in %g s", seconds)
        await asyncio.sleep(seconds)
