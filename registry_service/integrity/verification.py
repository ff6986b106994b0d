"""One verification: what it goes through, and how a caller follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator

from registry_service.events import Head
from registry_service.integrity import contents, records
from registry_service.integrity.chain import Chain
from registry_service.integrity.findings import Finding, Part, Progress, Summary
from registry_service.ports import BlobStore, Database
from registry_service.threads import Threads

#: Findings told one by one; all are counted.
MAX_FINDINGS = 10_000


def verify(
    database: Database, blobs: BlobStore, *, anchor: Head | None = None, skip_blobs: bool = False
) -> Generator[Part]:
    """Chain and records in one unchanging state of the database, then the bytes; the summary comes last.

    Changes made meanwhile are no findings. Memory does not grow with the registry.
    """
    summary = Summary()
    for part in _parts(database, blobs, anchor, skip_blobs, summary):
        if isinstance(part, Finding):
            summary.findings += 1
            if summary.findings > MAX_FINDINGS:
                continue
        yield part
    yield summary


def _parts(
    database: Database, blobs: BlobStore, anchor: Head | None, skip_blobs: bool, summary: Summary
) -> Iterator[Finding | Progress]:
    with database.read() as transaction:
        chain = Chain(transaction.integrity, anchor, summary)
        yield from chain.check()
        yield from records.check(transaction.integrity, chain.before, summary)
    if not skip_blobs:
        yield from contents.check(database, blobs, summary)


class Verifications:
    """Verifications for callers, one after the other: each reads everything there is."""

    def __init__(self, database: Database, blobs: BlobStore, threads: Threads) -> None:
        """threads: one thread of its own, so that the steps of a verification never overlap."""
        self._database, self._blobs, self._threads = database, blobs, threads
        self._turn = asyncio.Lock()

    async def follow(self, anchor: Head | None, *, skip_blobs: bool) -> AsyncIterator[Part]:
        """As `verify`. A caller that does not take the parts for long loses the transaction."""
        async with self._turn:
            steps = verify(self._database, self._blobs, anchor=anchor, skip_blobs=skip_blobs)
            try:
                while (part := await self._threads.run(next, steps, None)) is not None:
                    yield part
            finally:
                # After the step that may still run.
                self._threads.start(steps.close)
