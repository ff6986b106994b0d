"""What ties versions, runs and datasets together."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry_service.tables.base import Base, Id
from registry_service.tables.evidence import DatasetRow, RunRow
from registry_service.tables.models import VersionRow


class VersionDatasetRow(Base):
    __tablename__ = "version_dataset"

    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey(DatasetRow.id), primary_key=True, index=True)
    position: Mapped[int]


class RunBaseRow(Base):
    """The versions a run went on from."""

    __tablename__ = "run_base_version"

    run_id: Mapped[int] = mapped_column(ForeignKey(RunRow.id), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), primary_key=True, index=True)
    position: Mapped[int]


class EvaluationRow(Base):
    __tablename__ = "evaluation"

    id: Mapped[Id]
    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), index=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey(DatasetRow.id), index=True)
    split: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    create_time: Mapped[datetime]
    actor: Mapped[str]
