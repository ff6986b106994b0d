"""Changes as they happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.registry.errors import ResumeTokenUnknown
from registry_service.events import AuditEvent, Head
from registry_service.ports import Transaction

#: Events read at once.
BATCH = 200


@dataclass(frozen=True)
class Batch:
    """Events in order, and where the next batch begins: behind the last of them or, when no more are there,
    behind everything that was looked at."""

    events: tuple[AuditEvent, ...]
    behind: Head


def start(transaction: Transaction, token: Head | None) -> Head:
    """Where to begin: at the token, or behind all there is. Raises ResumeTokenUnknown.

    token: with the beginning of the event's hash.
    """
    if token is None:
        return transaction.audit.head()
    found = transaction.audit.hash_at(token.sequence)
    if found is None or not found.startswith(token.hash):
        raise ResumeTokenUnknown(
            "the resume token is of another history: this registry was restored from an older backup, or is "
            "another one. Read again what you need, then watch without a token",
            metadata={"resume_token": f"{token.sequence}.{token.hash}"},
        )
    return Head(token.sequence, found)


def next_batch(transaction: Transaction, behind: Head, *, kinds: Sequence[str], model: str) -> Batch:
    """The events behind a place, of some kinds and one model where given."""
    events = tuple(transaction.audit.events(after=behind.sequence, limit=BATCH, kinds=kinds, model=model))
    if len(events) == BATCH:
        return Batch(events, Head(events[-1].sequence, events[-1].hash))
    return Batch(events, transaction.audit.head())


def place_of(event: AuditEvent) -> Head:
    """The place behind an event."""
    return Head(event.sequence, event.hash)
