"""What the registry does by itself: leases that ran out are acted on, old request ids forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from plumbline.registry.errors import DatabaseUnavailable
from registry_service import deployments, runs
from registry_service.changes import Changes
from registry_service.domain import Act
from registry_service.ports import Database, Transaction
from registry_service.threads import Threads

_log = logging.getLogger("plumbline.registry")

#: Who does what nobody asked for.
ACTOR = "registry"

_BATCH = 100
_FORGET_SECONDS = 3600.0


class Housekeeping:
    """The tasks; several processes on one database may do them at once."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self._database, self._changes = database, changes

    def expire(self) -> int:
        """Fails runs and ends deployments whose lease has ended; how many."""
        done = 0
        # A look that takes no writer's turn comes first: mostly there is nothing to do.
        with self._database.read() as transaction:
            now = self._changes.now()
            idle_runs = not transaction.runs.expired(now, 1)
            idle_deployments = not transaction.deployments.expired(now, 1)
        if not idle_runs:
            done += self._in_batches(runs.expire)
        if not idle_deployments:
            done += self._in_batches(deployments.expire)
        return done

    def forget_old_requests(self) -> int:
        """Removes answers that were kept long enough; how many."""
        return self._changes.forget_old_requests()

    def _in_batches(self, expire: Callable[[Transaction, Act, int], int]) -> int:
        """Transactions short enough that others get their turn between them."""

        def work(transaction: Transaction, act: Act) -> int:
            return expire(transaction, act, _BATCH)

        total = 0
        while count := self._changes.make(ACTOR, work):
            total += count
        return total


async def keep_house(
    tasks: Housekeeping, threads: Threads, *, expiry_seconds: float, grace_seconds: float
) -> None:
    """Does the tasks until it is cancelled."""
    forget_at, expire_at = 0.0, time.monotonic() + grace_seconds
    while True:
        try:
            if time.monotonic() >= forget_at:
                _log.debug("forgot %d old request ids", await threads.run(tasks.forget_old_requests))
                forget_at = time.monotonic() + _FORGET_SECONDS
            if time.monotonic() >= expire_at and (count := await threads.run(tasks.expire)):
                _log.info("%d runs and deployments ended with their leases", count)
        except DatabaseUnavailable:
            _log.warning("the database is not available; housekeeping tries again in %g s", expiry_seconds)
        await asyncio.sleep(expiry_seconds)
