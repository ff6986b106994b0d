"""What the use cases of webhooks need from the database. The docstrings are the contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from registry_service.events import AuditEvent
from registry_service.webhooks.domain import Delivery, Progress, Webhook, WebhookState


class WebhookStore(Protocol):
    """Webhooks, how far each is, and what was sent to them."""

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
        """delivered: the event behind which it begins."""

    def get(self, name: str) -> Webhook:
        """Raises WebhookNotFound."""

    def list(self, *, after: int, limit: int) -> Sequence[Webhook]:
        """Oldest first, those with an id above `after`."""

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
        """Writes these fields, and lets the next attempt be made at once."""

    def remove(self, webhook: Webhook) -> None:
        """With its deliveries."""

    def active(self) -> Sequence[Webhook]:
        """All that are ACTIVE and can sign."""

    def next_events(self, webhook: Webhook, *, after: int, limit: int) -> Sequence[AuditEvent]:
        """In order, the events above `after` that the webhook is about."""

    def claim(self, webhook: Webhook, owner: str, now: datetime, until: datetime) -> Webhook | None:
        """Leases the webhook as it is now, so that nobody else sends to it before `until`. None when somebody
        else has it, when it is not due, or when it was changed or removed since it was read."""

    def settle(
        self, webhook: Webhook, owner: str, deliveries: Sequence[Delivery], progress: Progress
    ) -> None:
        """Records attempts and progress, and ends the lease. After the lease was lost to somebody else only
        the attempts; after the webhook was removed nothing."""

    def skip(self, webhook: Webhook, to: int) -> None:
        """Notes that nothing up to an event is of interest, unless the webhook went on meanwhile."""

    def deliveries(self, webhook: Webhook, *, before: int | None, limit: int) -> Sequence[Delivery]:
        """Newest first, those with an id below `before`."""

    def forget_deliveries(self, before: datetime, keep: int) -> int:
        """Removes attempts made before a moment, and all but the newest `keep` of each webhook; how many."""
