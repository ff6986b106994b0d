"""The chain of events: each change leaves one, in its own transaction, that holds the hash of the one before.

An event's hash is the sha256 of a JSON array, without blanks and in UTF-8, of these of its fields:

    sequence, time (microseconds since 1970), actor, action, kind, resource, details, state digest,
    request id, previous hash

`details` is itself the text of a JSON object with sorted keys and without blanks. Its "id" is the record's
own, so that events and records can be matched whatever they are called by then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_service.domain import Act
from registry_service.events import AuditEvent, Subject
from registry_service.ports import Transaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: The hash before the first event.
BEGINNING = "0" * 64


def record(
    transaction: Transaction,
    act: Act,
    action: str,
    subject: Subject,
    *,
    details: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Adds the event of a change to the chain.

    details: what changed, for people and programs: JSON values, no secrets. state: the whole record after the
    change, as `registry_service.states` gives it; only its digest is kept, to find out later whether the
    record is still what it was.
    """
    head = transaction.audit.head()
    event = AuditEvent(
        sequence=head.sequence + 1,
        time=act.time,
        actor=act.actor,
        action=action,
        subject=subject,
        details=canonical({**(details or {}), "id": subject.id}),
        state_digest="" if state is None else digest(state),
        request_id=act.request_id,
        previous_hash=head.hash,
        hash="",
    )
    hashed = AuditEvent(**{**vars(event), "hash": event_hash(event)})
    transaction.audit.append(hashed)
    return hashed


def event_hash(event: AuditEvent) -> str:
    """64 hex digits, as the module says."""
    return fields_hash(
        event.sequence,
        (event.time - _EPOCH) // _MICROSECOND,
        event.actor,
        event.action,
        event.subject.kind.value,
        event.subject.name,
        event.details,
        event.state_digest,
        event.request_id,
        event.previous_hash,
    )


def fields_hash(*fields: str | int) -> str:
    """64 hex digits over the fields of an event, in the order the module gives."""
    return hashlib.sha256(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def digest(state: Mapping[str, Any]) -> str:
    """64 hex digits over a record's canonical state."""
    return hashlib.sha256(canonical(state).encode()).hexdigest()


def canonical(value: Mapping[str, Any]) -> str:
    """JSON with sorted keys and without blanks; moments in microseconds since 1970."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    raise TypeError(f"{type(value).__name__} is no part of a record's state")
