"""Models, versions with their files and notes, aliases and their history."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registry_service.tables.base import Base, Id, Json, Name
from registry_service.tables.evidence import RunRow


def _of_short_values(table: str, owner: str) -> Index:
    """For tags that equal something. PostgreSQL's indexes take no long values."""
    short = text("length(value) <= 200")
    name = f"ix_{table}_short_value"
    return Index(name, "key", "value", owner, sqlite_where=short, postgresql_where=short)


class ModelRow(Base):
    __tablename__ = "registered_model"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(Name, unique=True)
    description: Mapped[str]
    latest_version: Mapped[int]
    revision: Mapped[int]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]
    archive_time: Mapped[datetime | None]


class ModelTagRow(Base):
    __tablename__ = "model_tag"
    __table_args__ = (Index(None, "key", "model_id"), _of_short_values("model_tag", "model_id"))

    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id), primary_key=True)
    key: Mapped[str] = mapped_column(Name, primary_key=True)
    value: Mapped[str]


class VersionRow(Base):
    __tablename__ = "model_version"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        CheckConstraint("state in ('DRAFT', 'READY', 'ARCHIVED')", "state"),
        CheckConstraint("number > 0", "number"),
        CheckConstraint("state <> 'READY' or manifest_digest <> ''", "manifest"),
        # For searches.
        Index(None, "model_id", "create_time"),
        Index(None, "create_time"),
        Index(None, "manifest_digest"),
    )

    id: Mapped[Id]
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    number: Mapped[int]
    state: Mapped[str]
    signature: Mapped[dict[str, Any] | None] = mapped_column(Json)
    run_id: Mapped[int | None] = mapped_column(ForeignKey(RunRow.id), index=True)
    manifest_digest: Mapped[str]
    create_time: Mapped[datetime]
    finalize_time: Mapped[datetime | None]
    archive_time: Mapped[datetime | None]
    actor: Mapped[str]
    revision: Mapped[int]
    source: Mapped[str]
    external_run: Mapped[str] = mapped_column(index=True)
    run_link: Mapped[str]
    copied_from_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"), index=True)


class VersionAnnotationRow(Base):
    """Notes about a version, which may change while the version itself does not. One row a version."""

    __tablename__ = "version_annotation"
    __table_args__ = (Index(None, "model_id", "update_time"), Index(None, "update_time"))

    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    description: Mapped[str]
    stage: Mapped[str]
    update_time: Mapped[datetime]
    revision: Mapped[int]


class VersionTagRow(Base):
    __tablename__ = "version_tag"
    __table_args__ = (Index(None, "key", "version_id"), _of_short_values("version_tag", "version_id"))

    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True)
    key: Mapped[str] = mapped_column(Name, primary_key=True)
    value: Mapped[str]


class VersionMetricRow(Base):
    """The last value of each metric of a version, for searching; the evaluations are the evidence."""

    __tablename__ = "version_metric"
    __table_args__ = (Index(None, "name", "value", "version_id"),)

    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    value: Mapped[float]


class BlobRow(Base):
    """Bytes the artifact folder holds, by their digest."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    create_time: Mapped[datetime]
    # When it was found that no version refers to it; null while one does.
    mark_time: Mapped[datetime | None]


class FileRow(Base):
    __tablename__ = "version_file"

    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True)
    path: Mapped[str] = mapped_column(Name, primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey(BlobRow.sha256), index=True)
    media_type: Mapped[str]
    create_time: Mapped[datetime]


class AliasRow(Base):
    """One row per alias ever set; version_id is null while it is cleared, so revisions never repeat."""

    __tablename__ = "alias"
    __table_args__ = (UniqueConstraint("model_id", "name"), Index(None, "name"))

    id: Mapped[Id]
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    name: Mapped[str] = mapped_column(Name)
    version_id: Mapped[int | None] = mapped_column(ForeignKey(VersionRow.id), index=True)
    revision: Mapped[int]
    actor: Mapped[str]
    reason: Mapped[str]
    update_time: Mapped[datetime]


class AliasEventRow(Base):
    __tablename__ = "alias_event"
    __table_args__ = (
        UniqueConstraint("alias_id", "revision"),
        # History of a model, newest first, and who held an alias at a moment.
        Index(None, "model_id", "id"),
        Index(None, "alias_id", "time"),
    )

    id: Mapped[Id]
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    alias_id: Mapped[int] = mapped_column(ForeignKey(AliasRow.id))
    revision: Mapped[int]
    from_version_id: Mapped[int | None] = mapped_column(ForeignKey(VersionRow.id))
    to_version_id: Mapped[int | None] = mapped_column(ForeignKey(VersionRow.id))
    actor: Mapped[str]
    reason: Mapped[str]
    time: Mapped[datetime]
    # Of a rollback: the revision of the move whose holder it put back.
    restored_revision: Mapped[int | None]
