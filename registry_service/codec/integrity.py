"""Verifications on the wire."""

from __future__ import annotations

import re

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import changes_pb2 as pb
from registry_service.events import Head
from registry_service.integrity.findings import Finding, Part, Progress, Summary

_ANCHOR = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


def from_anchor(text: str) -> Head:
    """ "{sequence}:{hash}". Raises InvalidField."""
    match = _ANCHOR.fullmatch(text)
    if match is None:
        message = f"anchor {text[:100]!r} is not of the form SEQUENCE:HASH, as a verification shows it"
        raise InvalidField(
            message, metadata={"field": "anchor"}, violations=[FieldViolation("anchor", message)]
        )
    return Head(int(match.group(1)), match.group(2))


def to_part(part: Part) -> pb.VerifyIntegrityResponse:
    if isinstance(part, Progress):
        progress = pb.VerifyProgress(stage=part.stage, done=part.done, total=part.total)
        return pb.VerifyIntegrityResponse(progress=progress)
    if isinstance(part, Finding):
        kind = pb.FindingKind.Value(f"FINDING_KIND_{part.kind}")
        finding = pb.IntegrityFinding(kind=kind, resource=part.resource, message=part.message)
        return pb.VerifyIntegrityResponse(finding=finding)
    return pb.VerifyIntegrityResponse(summary=_summary(part))


def _summary(summary: Summary) -> pb.VerifySummary:
    head = summary.head
    return pb.VerifySummary(
        intact=summary.intact,
        events=summary.events,
        records=summary.records,
        blobs=summary.blobs,
        blob_bytes=summary.blob_bytes,
        findings=summary.findings,
        head="" if head is None else f"{head.sequence}:{head.hash}",
        records_before_audit=summary.records_before_audit,
    )
