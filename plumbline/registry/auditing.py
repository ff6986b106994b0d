"""Calls about what happened, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from plumbline.calls import Client
from plumbline.registry.v1 import changes_pb2
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub

# Everything is read: every event, every record, every byte.
_VERIFY_SECONDS = 24 * 3600.0


class AuditCalls(Client):
    """A part of `RegistryClient`."""

    _stub: ModelRegistryServiceStub

    def list_audit_events(self, condition: str = "") -> Iterator[changes_pb2.AuditEvent]:
        """All changes, newest first, page after page. condition: a filter, as in
        `actor = "ann" AND action = "SetAlias"`. Raises InvalidFilter."""
        request = changes_pb2.ListAuditEventsRequest(filter=condition)
        for page in self._pages(self._stub.ListAuditEvents, request):
            yield from page.events

    def verify_integrity(
        self, *, anchor: str = "", skip_blobs: bool = False, timeout: float = _VERIFY_SECONDS
    ) -> Iterator[changes_pb2.VerifyIntegrityResponse]:
        """Progress and findings as they come, the summary last.

        anchor: "{sequence}:{hash}", the head of an earlier summary. Parts must be taken as they come: after
        half a minute without, the server gives up.
        """
        request = changes_pb2.VerifyIntegrityRequest(skip_blobs=skip_blobs, anchor=anchor)
        yield from self._stream(self._stub.VerifyIntegrity, request, timeout)
