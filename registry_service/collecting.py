"""The collection of garbage: two phases over the store, the records and the uploads that were given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from registry_service import garbage
from registry_service.artifacts import MAX_NAMED, BlobRecord, Garbage, StoredBlob
from registry_service.domain import Act
from registry_service.ports import BlobStore, Clock, Transaction
from registry_service.ports_blobs import Staging
from registry_service.threads import Threads

T = TypeVar("T")

# Blobs asked about, or looked at by a sweep, in one transaction; those that go are all named in its event.
_BATCH = 200


class Database(Protocol):
    """What of `calls.Calls` is needed here."""

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """What `work` finds in one unchanging state."""

    async def write(self, work: Callable[[Transaction, Act], T]) -> T:
        """What `work` makes of a change."""


class Collector:
    """Marks and sweeps."""

    def __init__(
        self, database: Database, blobs: BlobStore, staging: Staging, threads: Threads, clock: Clock
    ) -> None:
        self._database, self._blobs, self._staging = database, blobs, staging
        self._threads, self._clock = threads, clock

    async def mark(self, *, dry_run: bool) -> Garbage:
        """Notes which blobs no version refers to, those included that the database does not know of."""
        lost: list[StoredBlob] = []
        async for batch in self._stored():
            unknown = await self._database.read(partial(garbage.unknown, blobs=batch))
            if unknown and not dry_run:
                await self._database.write(partial(garbage.adopt, blobs=unknown))
            lost += unknown
        if not dry_run:
            return await self._database.write(garbage.mark)
        found = await self._database.read(garbage.unreferenced)
        return Garbage(
            found.blobs + len(lost),
            found.size_bytes + sum(blob.size_bytes for blob in lost),
            (*found.sha256, *(blob.sha256 for blob in lost))[:MAX_NAMED],
        )

    async def sweep(self, marked_for: timedelta, *, dry_run: bool) -> Garbage:
        """Removes blobs marked so long ago that still nobody refers to, and uploads given up a week ago."""
        before = self._clock() - marked_for
        removed: list[BlobRecord] = []
        after = ""
        while batch := await self._marked(before, after):
            if dry_run:
                removed += batch
                after = batch[-1].sha256
                continue
            gone, seen = await self._database.write(
                partial(garbage.sweep, before=before, candidates=batch, remove=self._blobs.remove)
            )
            removed += gone
            after = batch[seen - 1].sha256
        uploads = await self._threads.run(self._staging.expire, dry_run=dry_run)
        return Garbage(
            len(removed),
            sum(blob.size_bytes for blob in removed),
            [blob.sha256 for blob in removed[:MAX_NAMED]],
            uploads,
        )

    async def _marked(self, before: datetime, after: str) -> list[BlobRecord]:
        return await self._database.read(partial(garbage.marked, before=before, after=after, limit=_BATCH))

    async def _stored(self) -> AsyncIterator[list[StoredBlob]]:
        blobs: Iterator[StoredBlob] = self._blobs.stored()
        while batch := await self._threads.run(lambda: list(islice(blobs, _BATCH))):
            yield batch
