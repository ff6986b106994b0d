"""What the database knows of stored bytes, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from registry_service.artifacts import BlobRecord, Garbage, StoredBlob
from registry_service.domain import ModelFile
from registry_service.repository.common import insert_or_ignore
from registry_service.tables import BlobRow, FileRow


class SqlBlobs:
    """`ports.BlobRecords`. Locks are row locks on PostgreSQL; on SQLite a transaction that writes is alone."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def claim(self, file: ModelFile, time: datetime) -> None:
        row = {"sha256": file.sha256, "size_bytes": file.size_bytes, "create_time": time}
        locked = select(BlobRow.sha256).where(BlobRow.sha256 == file.sha256).with_for_update()
        while True:
            insert_or_ignore(self._session, BlobRow, [row])
            # A record that was there may have been removed by the transaction that was waited for here.
            if self._session.scalar(locked) is not None:
                break
        self._session.execute(
            update(BlobRow)
            .where(BlobRow.sha256 == file.sha256, BlobRow.mark_time.is_not(None))
            .values(mark_time=None)
            .execution_options(synchronize_session=False)
        )

    def unknown(self, blobs: Sequence[StoredBlob]) -> list[StoredBlob]:
        statement = select(BlobRow.sha256).where(BlobRow.sha256.in_([blob.sha256 for blob in blobs]))
        known = set(self._session.scalars(statement))
        return [blob for blob in blobs if blob.sha256 not in known]

    def add_marked(self, blobs: Sequence[StoredBlob], time: datetime) -> None:
        rows = [
            {
                "sha256": blob.sha256,
                "size_bytes": blob.size_bytes,
                "create_time": blob.time,
                "mark_time": time,
            }
            for blob in blobs
        ]
        insert_or_ignore(self._session, BlobRow, rows)

    def mark(self, time: datetime) -> None:
        for condition, value in (
            ((BlobRow.mark_time.is_(None), ~_referenced()), time),
            ((BlobRow.mark_time.is_not(None), _referenced()), None),
        ):
            self._session.execute(
                update(BlobRow)
                .where(*condition)
                .values(mark_time=value)
                .execution_options(synchronize_session=False)
            )

    def unreferenced(self, limit: int) -> Garbage:
        count, size = self._session.execute(
            select(func.count(), func.coalesce(func.sum(BlobRow.size_bytes), 0))
            .select_from(BlobRow)
            .where(~_referenced())
        ).one()
        named = select(BlobRow.sha256).where(~_referenced()).order_by(BlobRow.sha256).limit(limit)
        return Garbage(count, int(size), tuple(self._session.scalars(named)))

    def marked(self, before: datetime, *, after: str = "", limit: int) -> list[BlobRecord]:
        statement = (
            select(BlobRow.sha256, BlobRow.size_bytes)
            .where(BlobRow.mark_time <= before, BlobRow.sha256 > after, ~_referenced())
            .order_by(BlobRow.sha256)
            .limit(limit)
        )
        return [BlobRecord(sha256, size) for sha256, size in self._session.execute(statement)]

    def lock_marked(self, before: datetime, sha256: str) -> bool:
        marked = (BlobRow.sha256 == sha256, BlobRow.mark_time <= before)
        if self._session.scalar(select(BlobRow.sha256).where(*marked).with_for_update()) is None:
            return False
        # A statement of its own: it sees what was committed while the lock was waited for.
        return not self._session.scalar(select(exists().where(FileRow.sha256 == sha256)))

    def forget(self, sha256: str) -> None:
        self._session.execute(delete(BlobRow).where(BlobRow.sha256 == sha256))


def _referenced() -> ColumnElement[bool]:
    return exists().where(FileRow.sha256 == BlobRow.sha256)
