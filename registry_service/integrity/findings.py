"""What a verification tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from registry_service.events import Head


class FindingKind(StrEnum):
    """Named as in the contract."""

    CHAIN_BROKEN = "CHAIN_BROKEN"
    CHAIN_INCOMPLETE = "CHAIN_INCOMPLETE"
    ANCHOR_MISSING = "ANCHOR_MISSING"
    RECORD_ALTERED = "RECORD_ALTERED"
    RECORD_MISSING = "RECORD_MISSING"
    RECORD_UNEXPLAINED = "RECORD_UNEXPLAINED"
    BLOB_MISSING = "BLOB_MISSING"
    BLOB_CORRUPT = "BLOB_CORRUPT"
    MANIFEST_WRONG = "MANIFEST_WRONG"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was left. resource: its name, "auditEvents/{sequence}" or "blobs/{sha256}".
    message: what was expected and what was found, for people."""

    kind: FindingKind
    resource: str
    message: str


@dataclass(frozen=True)
class Progress:
    """stage: "chain" (events), "records" (rows) or "blobs" (bytes)."""

    stage: str
    done: int
    total: int


@dataclass
class Summary:
    """Filled while the verification goes on. head: of the chain, as the events have it."""

    events: int = 0
    records: int = 0
    records_before_audit: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    findings: int = 0
    head: Head | None = None

    @property
    def intact(self) -> bool:
        return self.findings == 0


Part = Finding | Progress | Summary
