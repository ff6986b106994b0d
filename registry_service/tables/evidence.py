"""What versions came from: runs, code, environments, datasets, feature definitions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry_service.tables.base import Base, Id


class EnvironmentRow(Base):
    """What a run ran in, kept once. packages: sorted "name==version" lines, which the digest is over."""

    __tablename__ = "environment"
    __table_args__ = (UniqueConstraint("digest", "python_version", "platform"),)

    id: Mapped[Id]
    digest: Mapped[str]
    python_version: Mapped[str]
    platform: Mapped[str]
    packages: Mapped[list[Any]]


class CodeRow(Base):
    """A commit; who keeps it in which working tree is a fact of the run."""

    __tablename__ = "code_revision"

    id: Mapped[Id]
    commit_id: Mapped[str] = mapped_column(unique=True)
    repository: Mapped[str]


class RunRow(Base):
    __tablename__ = "training_run"
    __table_args__ = (CheckConstraint("state in ('RUNNING', 'FINISHED', 'FAILED')", "state"),)

    id: Mapped[Id]
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
    environment_id: Mapped[int | None] = mapped_column(ForeignKey(EnvironmentRow.id), index=True)
    config: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("training_run.id"), index=True)
    lease_expire_time: Mapped[datetime | None] = mapped_column(index=True)


class FeatureServiceRow(Base):
    """One state of a feature service."""

    __tablename__ = "feature_service_version"
    __table_args__ = (UniqueConstraint("project", "name", "digest"),)

    id: Mapped[Id]
    project: Mapped[str]
    name: Mapped[str]
    digest: Mapped[str]


class FeatureViewRow(Base):
    """One state of a feature view."""

    __tablename__ = "feature_view_version"
    __table_args__ = (UniqueConstraint("project", "name", "digest"),)

    id: Mapped[Id]
    project: Mapped[str]
    name: Mapped[str]
    digest: Mapped[str]


class FeatureSpecRow(Base):
    """The text of a feature service's or view's definition, by its digest."""

    __tablename__ = "feature_spec"

    digest: Mapped[str] = mapped_column(primary_key=True)
    spec: Mapped[str]


class FeatureServiceMemberRow(Base):
    """The views a feature service takes features from, as the datasets read through it tell."""

    __tablename__ = "feature_service_member"

    service_id: Mapped[int] = mapped_column(ForeignKey(FeatureServiceRow.id), primary_key=True)
    view_id: Mapped[int] = mapped_column(ForeignKey(FeatureViewRow.id), primary_key=True, index=True)


class DatasetRow(Base):
    __tablename__ = "dataset_snapshot"

    id: Mapped[Id]
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
    recipe: Mapped[str]


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
