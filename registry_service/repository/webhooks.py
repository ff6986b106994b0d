"""Webhooks in SQL."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, insert, or_, select, update
from sqlalchemy.orm import Session

from plumbline.registry.errors import WebhookNotFound
from registry_service.events import AuditEvent
from registry_service.repository.audit import to_event
from registry_service.tables import AuditEventRow, ModelRow, WebhookDeliveryRow, WebhookRow
from registry_service.webhooks.domain import Delivery, Progress, Webhook, WebhookState


class SqlWebhooks:
    """`ports.WebhookStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        name: str,
        *,
        url: str,
        actions: Sequence[str],
        model_id: int | None,
        state: WebhookState,
        description: str,
        secret: str,
        delivered: int,
        actor: str,
        time: datetime,
    ) -> Webhook:
        self._session.execute(
            insert(WebhookRow).values(
                name=name,
                url=url,
                actions=list(actions),
                model_id=model_id,
                state=state.value,
                description=description,
                secret=secret,
                create_time=time,
                update_time=time,
                actor=actor,
                revision=1,
                delivered_sequence=delivered,
                attempts=0,
                last_error="",
                lease_owner="",
            )
        )
        return self.get(name)

    def get(self, name: str) -> Webhook:
        found = self._find(_webhooks().where(WebhookRow.name == name))
        if not found:
            raise WebhookNotFound(f"there is no webhook {name!r}", metadata={"webhook": f"webhooks/{name}"})
        return found[0]

    def list(self, *, after: int, limit: int) -> builtins.list[Webhook]:
        return self._find(_webhooks().where(WebhookRow.id > after).limit(limit))

    def update(
        self,
        webhook: Webhook,
        *,
        url: str,
        actions: Sequence[str],
        model_id: int | None,
        state: WebhookState,
        description: str,
        secret: str,
        actor: str,
        time: datetime,
    ) -> Webhook:
        self._write(
            webhook.id,
            url=url,
            actions=list(actions),
            model_id=model_id,
            state=state.value,
            description=description,
            secret=secret,
            actor=actor,
            update_time=time,
            revision=webhook.revision + 1,
            attempts=0,
            first_failure_time=None,
            last_error="",
            next_attempt_time=None,
        )
        return self.get(webhook.name)

    def remove(self, webhook: Webhook) -> None:
        self._session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook.id))
        self._session.execute(delete(WebhookRow).where(WebhookRow.id == webhook.id))

    def active(self) -> builtins.list[Webhook]:
        active = WebhookRow.state == WebhookState.ACTIVE.value
        return self._find(_webhooks().where(active, WebhookRow.secret != ""))

    def next_events(self, webhook: Webhook, *, after: int, limit: int) -> builtins.list[AuditEvent]:
        statement = (
            select(AuditEventRow, ModelRow.name)
            .outerjoin(ModelRow, ModelRow.id == AuditEventRow.model_id)
            .where(AuditEventRow.sequence > after)
            .order_by(AuditEventRow.sequence)
            .limit(limit)
        )
        if webhook.actions:
            statement = statement.where(AuditEventRow.action.in_(webhook.actions))
        if webhook.model_id is not None:
            statement = statement.where(AuditEventRow.model_id == webhook.model_id)
        return [to_event(row, name) for row, name in self._session.execute(statement)]

    def claim(self, webhook: Webhook, owner: str, now: datetime, until: datetime) -> Webhook | None:
        taken = self._session.execute(
            update(WebhookRow)
            .where(
                WebhookRow.id == webhook.id,
                WebhookRow.name == webhook.name,
                WebhookRow.revision == webhook.revision,
                WebhookRow.state == WebhookState.ACTIVE.value,
                or_(WebhookRow.next_attempt_time.is_(None), WebhookRow.next_attempt_time <= now),
                or_(WebhookRow.lease_expire_time.is_(None), WebhookRow.lease_expire_time <= now),
            )
            .values(lease_owner=owner, lease_expire_time=until)
            .returning(WebhookRow.id)
            .execution_options(synchronize_session=False)
        ).first()
        return None if taken is None else self.get(webhook.name)

    def settle(
        self, webhook: Webhook, owner: str, deliveries: Sequence[Delivery], progress: Progress
    ) -> None:
        held = self._session.execute(
            select(WebhookRow.lease_owner, WebhookRow.revision).where(
                WebhookRow.id == webhook.id, WebhookRow.name == webhook.name
            )
        ).one_or_none()
        if held is None:
            return
        if deliveries:
            self._session.execute(
                insert(WebhookDeliveryRow), [_delivery_row(webhook.id, item) for item in deliveries]
            )
        if held.lease_owner != owner:
            return
        values: dict[str, Any] = {"lease_owner": "", "lease_expire_time": None}
        values["delivered_sequence"] = progress.delivered
        if held.revision == webhook.revision:
            values |= {
                "attempts": progress.attempts,
                "first_failure_time": progress.failing_since,
                "last_error": progress.last_error,
                "next_attempt_time": progress.next_attempt,
            }
        # After a change meanwhile the next attempt is made at once, whatever became of this one.
        self._write(webhook.id, **values)

    def skip(self, webhook: Webhook, to: int) -> None:
        self._session.execute(
            update(WebhookRow)
            .where(
                WebhookRow.id == webhook.id,
                WebhookRow.name == webhook.name,
                WebhookRow.revision == webhook.revision,
                WebhookRow.delivered_sequence == webhook.progress.delivered,
            )
            .values(delivered_sequence=to)
            .execution_options(synchronize_session=False)
        )

    def deliveries(self, webhook: Webhook, *, before: int | None, limit: int) -> builtins.list[Delivery]:
        statement = (
            select(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.webhook_id == webhook.id)
            .order_by(WebhookDeliveryRow.id.desc())
            .limit(limit)
        )
        if before is not None:
            statement = statement.where(WebhookDeliveryRow.id < before)
        return [_to_delivery(row) for row in self._session.scalars(statement)]

    def forget_deliveries(self, before: datetime, keep: int) -> int:
        old = delete(WebhookDeliveryRow).where(WebhookDeliveryRow.time < before)
        count = int(self._session.execute(old).rowcount)  # type: ignore[attr-defined]
        for webhook_id in self._session.scalars(select(WebhookRow.id)).all():
            of_webhook = WebhookDeliveryRow.webhook_id == webhook_id
            newest = select(WebhookDeliveryRow.id).where(of_webhook).order_by(WebhookDeliveryRow.id.desc())
            last = self._session.scalar(newest.offset(keep).limit(1))
            if last is not None:
                rest = delete(WebhookDeliveryRow).where(of_webhook, WebhookDeliveryRow.id <= last)
                count += int(self._session.execute(rest).rowcount)  # type: ignore[attr-defined]
        return count

    def _find(self, statement: Select[WebhookRow, str]) -> builtins.list[Webhook]:
        return [_to_webhook(row, model or "") for row, model in self._session.execute(statement)]

    def _write(self, webhook_id: int, **values: Any) -> None:
        self._session.execute(
            update(WebhookRow)
            .where(WebhookRow.id == webhook_id)
            .values(**values)
            .execution_options(synchronize_session=False)
        )


def _webhooks() -> Select[WebhookRow, str]:
    return (
        select(WebhookRow, ModelRow.name)
        .outerjoin(ModelRow, ModelRow.id == WebhookRow.model_id)
        .order_by(WebhookRow.id)
        # What this transaction wrote a moment ago is seen.
        .execution_options(populate_existing=True)
    )


def _to_webhook(row: WebhookRow, model: str) -> Webhook:
    return Webhook(
        id=row.id,
        name=row.name,
        url=row.url,
        actions=tuple(row.actions),
        model_id=row.model_id,
        model=model,
        state=WebhookState(row.state),
        description=row.description,
        secret=row.secret,
        create_time=row.create_time,
        update_time=row.update_time,
        actor=row.actor,
        revision=row.revision,
        progress=Progress(
            delivered=row.delivered_sequence,
            attempts=row.attempts,
            failing_since=row.first_failure_time,
            last_error=row.last_error,
            next_attempt=row.next_attempt_time,
        ),
        lease_expire_time=row.lease_expire_time,
    )


def _to_delivery(row: WebhookDeliveryRow) -> Delivery:
    return Delivery(
        sequence=row.sequence,
        attempt=row.attempt,
        time=row.time,
        status=row.status,
        error=row.error,
        delivered=row.delivered,
        given_up=row.given_up,
        id=row.id,
    )


def _delivery_row(webhook_id: int, delivery: Delivery) -> dict[str, Any]:
    return {
        "webhook_id": webhook_id,
        "sequence": delivery.sequence,
        "attempt": delivery.attempt,
        "time": delivery.time,
        "status": delivery.status,
        "error": delivery.error,
        "delivered": delivery.delivered,
        "given_up": delivery.given_up,
    }
