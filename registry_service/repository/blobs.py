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
    """`ports_blobs.BlobRecords`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def claim(self, file: ModelFile, time: datetime) -> None:
        row = {"sha256": file.sha256, "size_bytes": file.size_bytes, "create_time": time}
        insert_or_ignore(self._session, BlobRow, [row])
        self._set_mark(None, BlobRow.sha256 == file.sha256, BlobRow.mark_time.is_not(None))

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
        self._set_mark(time, BlobRow.mark_time.is_(None), ~_referenced())
        self._set_mark(None, BlobRow.mark_time.is_not(None), _referenced())

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

    def is_marked(self, before: datetime, sha256: str) -> bool:
        found = select(BlobRow.sha256).where(
            BlobRow.sha256 == sha256, BlobRow.mark_time <= before, ~_referenced()
        )
        return self._session.scalar(found) is not None

    def forget(self, sha256: str) -> None:
        self._session.execute(delete(BlobRow).where(BlobRow.sha256 == sha256))

    def _set_mark(self, time: datetime | None, *which: ColumnElement[bool]) -> None:
        self._session.execute(
            update(BlobRow).where(*which).values(mark_time=time).execution_options(synchronize_session=False)
        )


def _referenced() -> ColumnElement[bool]:
    return exists().where(FileRow.sha256 == BlobRow.sha256)
