"""The bytes that versions refer to, read whole."""

from __future__ import annotations

from collections.abc import Iterator

from plumbline.registry.errors import BlobCorrupt
from registry_service.domain import ModelFile
from registry_service.integrity.findings import Finding, FindingKind, Progress, Summary
from registry_service.integrity.store import StoredBlob
from registry_service.ports import BlobStore, Database

BATCH = 500
# Between two reports of progress.
_STEP_BYTES = 64 * 1024 * 1024
_USERS = 3


def check(database: Database, blobs: BlobStore, summary: Summary) -> Iterator[Finding | Progress]:
    """In transactions of its own, so that none is open while bytes are read."""
    with database.read() as transaction:
        _, total = transaction.integrity.blob_totals()
    after = ""
    while True:
        with database.read() as transaction:
            batch = transaction.integrity.blobs(after=after, limit=BATCH)
        for blob in batch:
            for done in _read(blobs, blob):
                if done is None:
                    yield from _second_look(database, blobs, blob)
                else:
                    read = summary.blob_bytes + done
                    yield Progress("blobs", read, max(total, read))
            summary.blobs += 1
            summary.blob_bytes += blob.size_bytes
        if len(batch) < BATCH:
            yield Progress("blobs", summary.blob_bytes, max(total, summary.blob_bytes))
            return
        after = batch[-1].sha256


def _read(blobs: BlobStore, blob: StoredBlob) -> Iterator[int | None]:
    """Bytes read, now and then; None, at the end, when they are not the right ones."""
    done = reported = 0
    try:
        stream = blobs.open(ModelFile(blob.sha256, blob.sha256, blob.size_bytes, ""))
        try:
            while chunk := stream.read():
                done += len(chunk)
                if done - reported >= _STEP_BYTES:
                    reported = done
                    yield done
        finally:
            stream.close()
    except BlobCorrupt:
        yield None


def _second_look(database: Database, blobs: BlobStore, blob: StoredBlob) -> Iterator[Finding]:
    """What is wrong, unless it was collected, or uploaded again, in the meantime."""
    resource = f"blobs/{blob.sha256}"
    try:
        found = blobs.measure(blob.sha256)
        problem = None if found is None else f"its bytes have the sha256 {found[0]} and are {found[1]}"
    except OSError as error:
        found, problem = ("", 0), f"its bytes cannot be read: {error.strerror}"
    if found == (blob.sha256, blob.size_bytes):
        return
    with database.read() as transaction:
        users = transaction.integrity.blob_users(blob.sha256, _USERS)
    if not users:
        return
    needed = f"needed by {', '.join(users)}{' and others' if len(users) == _USERS else ''}"
    if problem is None:
        yield Finding(FindingKind.BLOB_MISSING, resource, f"its {blob.size_bytes} bytes are gone; {needed}")
    else:
        yield Finding(
            FindingKind.BLOB_CORRUPT, resource, f"{problem}, recorded are {blob.size_bytes}; {needed}"
        )
