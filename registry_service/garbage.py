"""Use cases of the collection of garbage. Each function is one transaction of its caller's.

Why a sweep takes no bytes that somebody needs is told in uploads.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from registry_service.artifacts import MAX_NAMED, BlobRecord, Garbage, StoredBlob
from registry_service.audit import record
from registry_service.domain import Act
from registry_service.events import Kind, Subject
from registry_service.ports import Transaction

#: How long the removals of one transaction may take: other changes wait meanwhile.
SWEEP_SECONDS = 0.5


def unknown(transaction: Transaction, blobs: Sequence[StoredBlob]) -> list[StoredBlob]:
    """Of stored bytes those without a record: a process ended before it could write one."""
    return transaction.blobs.unknown(blobs)


def adopt(transaction: Transaction, act: Act, blobs: Sequence[StoredBlob]) -> None:
    """Records and marks stored bytes that have no record yet. An upload that is about to refer to some of
    them takes the mark away."""
    transaction.blobs.add_marked(blobs, act.time)


def mark(transaction: Transaction, act: Act) -> Garbage:
    """Marks what no version refers to; what was marked before keeps its mark."""
    transaction.blobs.mark(act.time)
    return transaction.blobs.unreferenced(MAX_NAMED)


def unreferenced(transaction: Transaction) -> Garbage:
    """What `mark` would mark, or has marked."""
    return transaction.blobs.unreferenced(MAX_NAMED)


def marked(transaction: Transaction, before: datetime, after: str, limit: int) -> list[BlobRecord]:
    """What a sweep removes: blobs marked before a moment, by digest."""
    return transaction.blobs.marked(before, after=after, limit=limit)


def sweep(
    transaction: Transaction,
    act: Act,
    before: datetime,
    candidates: Sequence[BlobRecord],
    remove: Callable[[str], None],
) -> tuple[list[BlobRecord], int]:
    """Removes those of the candidates that still are garbage, until SWEEP_SECONDS have passed.

    remove: takes the bytes of a digest out of the store. Returns what was removed, and how many of the
    candidates were looked at. If the transaction is undone afterwards, records without bytes stay, which the
    next sweep removes.
    """
    removed: list[BlobRecord] = []
    seen, end = 0, time.monotonic() + SWEEP_SECONDS
    for blob in candidates:
        if seen and time.monotonic() > end:
            break
        seen += 1
        if transaction.blobs.is_marked(before, blob.sha256):
            remove(blob.sha256)
            transaction.blobs.forget(blob.sha256)
            removed.append(blob)
    if removed:
        details = {
            "blobs": len(removed),
            "bytes": sum(blob.size_bytes for blob in removed),
            "sha256": [blob.sha256 for blob in removed],
        }
        record(transaction, act, "SweepBlobs", Subject(Kind.REGISTRY, 0, "registry"), details=details)
    return removed, seen
