"""The tables, as SQLAlchemy maps them. Their triggers are in the migrations.

Ids are the registry's own and never shown; names are plain unique columns. Rows are evidence: nothing
here is ever deleted but old request ids.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcMicros(TypeDecorator[datetime]):
    """A moment, exact to the microsecond: zone-aware UTC in Python, timestamptz in PostgreSQL, the
    microseconds since 1970 as an integer in SQLite (whose text dates neither sort nor compare safely).
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        return value if dialect.name == "postgresql" else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return _EPOCH + timedelta(microseconds=value)


_Id = Annotated[
    int, mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)
]
_Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# Names sort by code point on every database, whatever the locale, so that pages are the same.
_Name = Text().with_variant(Text(collation="C"), "postgresql")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy, as documented
        int: BigInteger(),
        str: Text(),
        datetime: UtcMicros(),
        dict[str, Any]: _Json,
        list[Any]: _Json,
    }


class ModelRow(Base):
    __tablename__ = "registered_model"

    id: Mapped[_Id]
    name: Mapped[str] = mapped_column(_Name, unique=True)
    description: Mapped[str]
    tags: Mapped[dict[str, Any]]
    latest_version: Mapped[int]
    revision: Mapped[int]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]
    archive_time: Mapped[datetime | None]


class CodeRow(Base):
    """A commit; who keeps it in which working tree is a fact of the run."""

    __tablename__ = "code_revision"

    id: Mapped[_Id]
    commit_id: Mapped[str] = mapped_column(unique=True)
    repository: Mapped[str]


class RunRow(Base):
    __tablename__ = "training_run"
    __table_args__ = (CheckConstraint("state in ('RUNNING', 'FINISHED', 'FAILED')", "state"),)

    id: Mapped[_Id]
    name: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    state: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    tags: Mapped[dict[str, Any]]
    seed: Mapped[int]
    code_id: Mapped[int | None] = mapped_column(ForeignKey(CodeRow.id), index=True)
    has_code: Mapped[bool]
    code_repository: Mapped[str]
    code_dirty: Mapped[bool]
    environment_digest: Mapped[str]
    start_time: Mapped[datetime]
    end_time: Mapped[datetime | None]
    error: Mapped[str]
    actor: Mapped[str]
    revision: Mapped[int]


class FeatureServiceRow(Base):
    """One state of a feature service."""

    __tablename__ = "feature_service_version"
    __table_args__ = (UniqueConstraint("project", "name", "digest"),)

    id: Mapped[_Id]
    project: Mapped[str]
    name: Mapped[str]
    digest: Mapped[str]


class FeatureViewRow(Base):
    """One state of a feature view."""

    __tablename__ = "feature_view_version"
    __table_args__ = (UniqueConstraint("project", "name", "digest"),)

    id: Mapped[_Id]
    project: Mapped[str]
    name: Mapped[str]
    digest: Mapped[str]


class FeatureServiceMemberRow(Base):
    """The views a feature service takes features from, as the datasets read through it tell."""

    __tablename__ = "feature_service_member"

    service_id: Mapped[int] = mapped_column(ForeignKey(FeatureServiceRow.id), primary_key=True)
    view_id: Mapped[int] = mapped_column(ForeignKey(FeatureViewRow.id), primary_key=True, index=True)


class DatasetRow(Base):
    __tablename__ = "dataset_snapshot"

    id: Mapped[_Id]
    digest: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    row_count: Mapped[int]
    schema: Mapped[list[Any]]
    as_of_start: Mapped[datetime | None]
    as_of_end: Mapped[datetime | None]
    feature_service_id: Mapped[int | None] = mapped_column(ForeignKey(FeatureServiceRow.id), index=True)
    entity_digest: Mapped[str]
    uri: Mapped[str]
    create_time: Mapped[datetime]
    actor: Mapped[str]


class DatasetViewRow(Base):
    __tablename__ = "dataset_feature_view"

    dataset_id: Mapped[int] = mapped_column(ForeignKey(DatasetRow.id), primary_key=True)
    view_id: Mapped[int] = mapped_column(ForeignKey(FeatureViewRow.id), primary_key=True, index=True)
    position: Mapped[int]


class RunDatasetRow(Base):
    __tablename__ = "run_input"

    run_id: Mapped[int] = mapped_column(ForeignKey(RunRow.id), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey(DatasetRow.id), primary_key=True, index=True)
    position: Mapped[int]


class VersionRow(Base):
    __tablename__ = "model_version"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        CheckConstraint("state in ('DRAFT', 'READY', 'ARCHIVED')", "state"),
        CheckConstraint("number > 0", "number"),
        CheckConstraint("state <> 'READY' or manifest_digest <> ''", "manifest"),
    )

    id: Mapped[_Id]
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    number: Mapped[int]
    state: Mapped[str]
    description: Mapped[str]
    tags: Mapped[dict[str, Any]]
    signature: Mapped[dict[str, Any] | None] = mapped_column(_Json)
    run_id: Mapped[int | None] = mapped_column(ForeignKey(RunRow.id), index=True)
    manifest_digest: Mapped[str]
    create_time: Mapped[datetime]
    finalize_time: Mapped[datetime | None]
    archive_time: Mapped[datetime | None]
    actor: Mapped[str]
    revision: Mapped[int]


class VersionDatasetRow(Base):
    __tablename__ = "version_dataset"

    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey(DatasetRow.id), primary_key=True, index=True)
    position: Mapped[int]


class BlobRow(Base):
    """Bytes the artifact folder holds, by their digest."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    create_time: Mapped[datetime]
    mark_time: Mapped[datetime | None] = mapped_column(index=True)


class FileRow(Base):
    __tablename__ = "version_file"

    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True)
    path: Mapped[str] = mapped_column(_Name, primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey(BlobRow.sha256), index=True)
    media_type: Mapped[str]
    create_time: Mapped[datetime]


class EvaluationRow(Base):
    __tablename__ = "evaluation"

    id: Mapped[_Id]
    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), index=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey(DatasetRow.id), index=True)
    split: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    create_time: Mapped[datetime]
    actor: Mapped[str]


class AliasRow(Base):
    """One row per alias ever set; version_id is null while it is cleared, so revisions never repeat."""

    __tablename__ = "alias"
    __table_args__ = (UniqueConstraint("model_id", "name"),)

    id: Mapped[_Id]
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    name: Mapped[str] = mapped_column(_Name)
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

    id: Mapped[_Id]
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    alias_id: Mapped[int] = mapped_column(ForeignKey(AliasRow.id))
    revision: Mapped[int]
    from_version_id: Mapped[int | None] = mapped_column(ForeignKey(VersionRow.id))
    to_version_id: Mapped[int | None] = mapped_column(ForeignKey(VersionRow.id))
    actor: Mapped[str]
    reason: Mapped[str]
    time: Mapped[datetime]


class RequestRow(Base):
    """A change that was made, and what was answered, by the caller's request id."""

    __tablename__ = "request"

    principal: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    create_time: Mapped[datetime] = mapped_column(index=True)
