"""The audit chain, request ids and webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from registry_service.tables.base import Base, Id
from registry_service.tables.models import ModelRow


class AuditEventRow(Base):
    """One change. details: canonical JSON as text, for its very bytes are hashed."""

    __tablename__ = "audit_event"
    __table_args__ = (
        Index(None, "kind", "node_id", "sequence"),
        Index(None, "model_id", "sequence"),
        Index(None, "time"),
    )

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False
    )
    time: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    kind: Mapped[str]
    node_id: Mapped[int]
    model_id: Mapped[int | None] = mapped_column(ForeignKey(ModelRow.id))
    resource: Mapped[str]
    details: Mapped[str]
    state_digest: Mapped[str]
    request_id: Mapped[str]
    previous_hash: Mapped[str]
    hash: Mapped[str]


class AuditHeadRow(Base):
    """The end of the chain: one row, which every change locks, so that changes have one order."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", "one"),)

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False
    )
    sequence: Mapped[int]
    hash: Mapped[str]


class RequestRow(Base):
    """A change that was made, and what was answered, by the caller's request id."""

    __tablename__ = "request"

    principal: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    create_time: Mapped[datetime] = mapped_column(index=True)


class WebhookRow(Base):
    """delivered_sequence: the last event accepted or given up. attempts: failed ones of the next event."""

    __tablename__ = "webhook"
    __table_args__ = (CheckConstraint("state in ('ACTIVE', 'PAUSED')", "state"),)

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    url: Mapped[str]
    actions: Mapped[list[Any]]
    model_id: Mapped[int | None] = mapped_column(ForeignKey(ModelRow.id))
    state: Mapped[str]
    description: Mapped[str]
    secret: Mapped[str]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]
    actor: Mapped[str]
    revision: Mapped[int]
    delivered_sequence: Mapped[int]
    attempts: Mapped[int]
    first_failure_time: Mapped[datetime | None]
    last_error: Mapped[str]
    next_attempt_time: Mapped[datetime | None]
    lease_owner: Mapped[str]
    lease_expire_time: Mapped[datetime | None]


class WebhookDeliveryRow(Base):
    __tablename__ = "webhook_delivery"
    __table_args__ = (Index(None, "webhook_id", "id"),)

    id: Mapped[Id]
    webhook_id: Mapped[int] = mapped_column(ForeignKey(WebhookRow.id, ondelete="CASCADE"))
    sequence: Mapped[int]
    attempt: Mapped[int]
    time: Mapped[datetime]
    status: Mapped[int]
    error: Mapped[str]
    delivered: Mapped[bool]
    given_up: Mapped[bool]
