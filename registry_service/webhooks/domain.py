"""What a webhook is, and what became of an event sent to it, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from registry_service.events import Kind, Subject


class WebhookState(StrEnum):
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"


@dataclass(frozen=True)
class Progress:
    """How far a webhook is. delivered: the last event accepted or given up. attempts: failed ones of the next
    event. failing_since: the first failure after the last success."""

    delivered: int
    attempts: int = 0
    failing_since: datetime | None = None
    last_error: str = ""
    next_attempt: datetime | None = None


@dataclass(frozen=True)
class Webhook:
    """name: the id after "webhooks/". model: the present id of the model, "" for all."""

    id: int
    name: str
    url: str
    actions: tuple[str, ...]
    model_id: int | None
    model: str
    state: WebhookState
    description: str
    secret: str = field(repr=False)
    create_time: datetime
    update_time: datetime
    actor: str
    revision: int
    progress: Progress
    lease_expire_time: datetime | None = None

    @property
    def resource(self) -> str:
        return f"webhooks/{self.name}"


@dataclass(frozen=True)
class Delivery:
    """One attempt to send one event. status: 0 when no answer came. id: 0 until it is recorded."""

    sequence: int
    attempt: int
    time: datetime
    status: int
    error: str
    delivered: bool
    given_up: bool
    id: int = 0


def state_of(webhook: Webhook) -> Mapping[str, Any]:
    """The webhook as its events vouch for it: without its progress, and without its secret, of which not even
    a digest is to be kept."""
    return {
        "name": webhook.name,
        "url": webhook.url,
        "actions": list(webhook.actions),
        "model": webhook.model_id,
        "state": webhook.state.value,
        "description": webhook.description,
        "create_time": webhook.create_time,
        "actor": webhook.actor,
    }


def subject_of(webhook: Webhook) -> Subject:
    return Subject(Kind.WEBHOOK, webhook.id, webhook.resource, webhook.model_id)
