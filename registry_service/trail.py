"""What happened, event by event."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.registry.errors import InvalidFilter
from registry_service.events import AuditEvent
from registry_service.ports import Transaction


def list_page(
    transaction: Transaction, condition: str, *, before: int | None, limit: int
) -> Sequence[AuditEvent]:
    """Newest first, those with a sequence below `before` that meet the filter. Raises InvalidFilter."""
    if condition:
        raise InvalidFilter(
            "audit events cannot be filtered by this server",
            metadata={"filter": condition[:100], "position": "0"},
        )
    return transaction.audit.page(before=before, limit=limit)
