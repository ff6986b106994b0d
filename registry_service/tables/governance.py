"""Policies, approvals and deployments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry_service.tables.base import Base, Id, Json, Name
from registry_service.tables.models import ModelRow, VersionRow


class PolicyRow(Base):
    """One row per alias that ever had a policy; rules is null while it has none: revisions never repeat."""

    __tablename__ = "promotion_policy"
    __table_args__ = (UniqueConstraint("model_id", "alias"),)

    id: Mapped[Id]
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    alias: Mapped[str] = mapped_column(Name)
    rules: Mapped[dict[str, Any] | None] = mapped_column(Json)
    description: Mapped[str]
    revision: Mapped[int]
    actor: Mapped[str]
    update_time: Mapped[datetime]


class ApprovalRow(Base):
    __tablename__ = "approval"
    __table_args__ = (
        CheckConstraint("decision in ('APPROVED', 'REJECTED', 'WITHDRAWN')", "decision"),
        Index(None, "version_id", "id"),
    )

    id: Mapped[Id]
    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id))
    decision: Mapped[str]
    alias: Mapped[str]
    comment: Mapped[str]
    actor: Mapped[str]
    create_time: Mapped[datetime]


class DeploymentRow(Base):
    __tablename__ = "deployment"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    version_id: Mapped[int] = mapped_column(ForeignKey(VersionRow.id), index=True)
    environment: Mapped[str]
    target: Mapped[str]
    alias: Mapped[str]
    attributes: Mapped[dict[str, Any]]
    start_time: Mapped[datetime]
    end_time: Mapped[datetime | None]
    lease_expire_time: Mapped[datetime | None] = mapped_column(index=True)
    end_reason: Mapped[str]
    actor: Mapped[str]
    revision: Mapped[int]
