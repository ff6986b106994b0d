"""What happened, event by event."""

from __future__ import annotations

from collections.abc import Sequence

from registry_service.events import AuditEvent
from registry_service.filtering.search import Hit, Search
from registry_service.ports import Transaction


def search(transaction: Transaction, asked: Search, limit: int) -> Sequence[Hit[AuditEvent]]:
    """A page of events, newest first."""
    return transaction.audit.search(asked, limit)
