# ruff: noqa: N802 - methods are named as in the contract
"""Methods about what happened, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from plumbline.registry.v1 import changes_pb2 as pb
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import trail
from registry_service.calls import Calls
from registry_service.codec import changes, integrity
from registry_service.filtering.fields import EVENTS
from registry_service.integrity.verification import Verifications
from registry_service.listing import Listing


class IntegrityMethods(ModelRegistryServiceServicer):
    """ListAuditEvents and VerifyIntegrity."""

    _calls: Calls
    _verifications: Verifications

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: Any
    ) -> pb.ListAuditEventsResponse:
        page = Listing(request, EVENTS)
        found = await self._calls.read(lambda tx: trail.search(tx, page.search, page.limit))
        items, token = page.cut(found, changes.to_event)
        return pb.ListAuditEventsResponse(events=items, next_page_token=token)

    async def VerifyIntegrity(
        self, request: pb.VerifyIntegrityRequest, context: Any
    ) -> AsyncIterator[pb.VerifyIntegrityResponse]:
        anchor = integrity.from_anchor(request.anchor) if request.anchor else None
        async for part in self._verifications.follow(anchor, skip_blobs=request.skip_blobs):
            yield integrity.to_part(part)
