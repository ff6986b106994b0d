"""Events on the wire, and the tokens to go on from them."""

from __future__ import annotations

import re

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidResumeToken
from plumbline.registry.v1 import changes_pb2 as pb
from registry_service.codec.values import to_timestamp
from registry_service.events import AuditEvent, Head

_TOKEN = re.compile(r"([0-9]{1,18})\.([0-9a-f]{16})")


def to_event(event: AuditEvent) -> pb.AuditEvent:
    return pb.AuditEvent(
        sequence=event.sequence,
        time=to_timestamp(event.time),
        actor=event.actor,
        action=event.action,
        resource=event.subject.name,
        kind=event.subject.kind.value,
        model=event.model,
        details=event.details,
        state_digest=event.state_digest,
        request_id=event.request_id,
        previous_hash=event.previous_hash,
        hash=event.hash,
    )


def to_token(head: Head) -> str:
    """Where to go on: behind this event of this history."""
    return f"{head.sequence}.{head.hash[:16]}"


def from_token(token: str) -> Head:
    """The hash is only the beginning of one. Raises InvalidResumeToken."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        message = f"resume_token {token[:100]!r} is not one that Watch gave out"
        raise InvalidResumeToken(
            message,
            metadata={"resume_token": token[:100]},
            violations=[FieldViolation("resume_token", message)],
        )
    return Head(int(match.group(1)), match.group(2))
