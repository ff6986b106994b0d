"""What receivers get: a JSON object {"type", "timestamp", "data"}, and an id that a repeat has too."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry_service.events import AuditEvent
from registry_service.webhooks.domain import Webhook
from registry_service.webhooks.signing import signed_headers

#: The type of the message that TestWebhook sends; events have their action as type.
TEST = "Test"


@dataclass(frozen=True)
class Message:
    """id: the same whenever, and by whichever process, the event is sent."""

    id: str
    body: bytes

    def headers(self, secret: str, now: datetime) -> Mapping[str, str]:
        """Signed for a time of sending."""
        return signed_headers(secret, self.id, int(now.timestamp()), self.body)


def of_event(event: AuditEvent) -> Message:
    """Its id tells apart histories too: after a restore, other events have the same sequence numbers."""
    data = {
        "sequence": event.sequence,
        "actor": event.actor,
        "action": event.action,
        "resource": event.subject.name,
        "kind": event.subject.kind.value,
        "model": event.model,
        "details": json.loads(event.details),
        "request_id": event.request_id,
        "hash": event.hash,
    }
    return Message(f"event_{event.sequence}_{event.hash[:16]}", _body(event.action, event.time, data))


def of_test(webhook: Webhook, now: datetime) -> Message:
    return Message(f"test_{uuid.uuid4().hex}", _body(TEST, now, {"webhook": webhook.resource}))


def _body(kind: str, time: datetime, data: Mapping[str, Any]) -> bytes:
    stamp = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return json.dumps(
        {"type": kind, "timestamp": stamp, "data": data}, ensure_ascii=False, separators=(",", ":")
    ).encode()
