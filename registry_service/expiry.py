"""Runs and deployments that were not renewed in time: what the registry does about them by itself."""

from __future__ import annotations

import asyncio
import logging

from plumbline.registry.errors import DatabaseUnavailable
from registry_service import deployments, runs
from registry_service.calls import Calls
from registry_service.domain import Act
from registry_service.ports import Transaction

_log = logging.getLogger("plumbline.registry")

#: Who does what nobody asked for.
ACTOR = "registry"

# Of each kind in one transaction, so that others get their turn between them.
_BATCH = 100


async def expire_leases(calls: Calls, seconds: float, *, grace_seconds: float) -> None:
    """Looks for leases that ran out every so many seconds, until it is cancelled.

    grace_seconds: how long to wait with the first look, for those who could not renew while the registry was
    down. Several processes on one database may look at once.
    """
    await asyncio.sleep(grace_seconds)
    while True:
        try:
            # A look that takes no writer's turn comes first: mostly there is nothing to do.
            while await calls.read(lambda tx: expired(tx, calls)):
                count = await calls.act(ACTOR, expire)
                _log.info("%d runs and deployments ended with their leases", count)
        except DatabaseUnavailable:
            _log.warning("leases could not be looked at; trying again in %g s", seconds)
        await asyncio.sleep(seconds)


def expired(transaction: Transaction, calls: Calls) -> bool:
    """Whether any lease has run out."""
    now = calls.now()
    return bool(transaction.runs.expired(now, 1) or transaction.deployments.expired(now, 1))


def expire(transaction: Transaction, act: Act) -> int:
    """Fails runs and ends deployments whose lease has run out, a batch of them; how many."""
    return runs.expire(transaction, act, _BATCH) + deployments.expire(transaction, act, _BATCH)
