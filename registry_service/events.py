"""What the audit keeps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What an audit event is about."""

    MODEL = "model"
    VERSION = "version"
    ALIAS = "alias"
    RUN = "run"
    DATASET = "dataset"
    EVALUATION = "evaluation"
    POLICY = "policy"
    APPROVAL = "approval"
    DEPLOYMENT = "deployment"
    WEBHOOK = "webhook"
    REGISTRY = "registry"


@dataclass(frozen=True)
class Subject:
    """A record that changes. id: the registry's own. model_id: of the model it belongs to, if it does."""

    kind: Kind
    id: int
    name: str
    model_id: int | None = None


@dataclass(frozen=True)
class AuditEvent:
    """One change. details: canonical JSON. Digests: 64 hex digits; state_digest "" where there is no state.

    model: the present name of the model it is about, "" for none; it is no part of the hash.
    """

    sequence: int
    time: datetime
    actor: str
    action: str
    subject: Subject
    details: str
    state_digest: str
    request_id: str
    previous_hash: str
    hash: str
    model: str = ""


@dataclass(frozen=True)
class Head:
    """The end of the chain of events."""

    sequence: int
    hash: str
