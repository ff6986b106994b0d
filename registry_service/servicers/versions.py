# ruff: noqa: N802 - methods are named as in the contract
"""Methods about versions and their files."""

from __future__ import annotations

from typing import Any

from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import models, names, versions
from registry_service.calls import Calls
from registry_service.codec import models as codec
from registry_service.filtering.fields import VERSIONS, VERSIONS_DEFAULT
from registry_service.listing import Listing
from registry_service.ports import Transaction
from registry_service.reading import Answer, CachedReads, scope_of, version_answer


class VersionMethods(ModelRegistryServiceServicer):
    """CreateVersion to ArchiveVersion."""

    _calls: Calls
    _reads: CachedReads

    async def CreateVersion(self, request: pb.CreateVersionRequest, context: Any) -> res.ModelVersion:
        command = codec.create_version(request)
        return await self._calls.change(
            request, res.ModelVersion, lambda tx, act: codec.to_version(versions.create(tx, act, command))
        )

    async def FinalizeVersion(self, request: pb.FinalizeVersionRequest, context: Any) -> res.ModelVersion:
        ref = names.version("name", request.name)
        return await self._calls.change(
            request,
            res.ModelVersion,
            lambda tx, act: codec.to_version(versions.finalize(tx, act, ref, request.etag)),
        )

    async def GetVersion(  # type: ignore[override] # the reply as it goes over the wire
        self, request: pb.GetVersionRequest, context: Any
    ) -> bytes:
        ref = names.version_or_alias("name", request.name)

        def read(transaction: Transaction) -> Answer:
            version = versions.get(transaction, ref)
            return version_answer(codec.to_version(version).SerializeToString(), version)

        return await self._reads.read(("GetVersion", ref), read)

    async def ListVersions(  # type: ignore[override] # as above
        self, request: pb.ListVersionsRequest, context: Any
    ) -> bytes:
        name = names.model_or_all("parent", request.parent)
        page = Listing(request, VERSIONS, VERSIONS_DEFAULT if name else None)

        def read(transaction: Transaction) -> Answer:
            model_id = models.get_id(transaction, name) if name else None
            found = versions.search(transaction, page.search, model_id=model_id, limit=page.limit)
            items, token = page.cut(found, codec.to_version)
            reply = pb.ListVersionsResponse(versions=items, next_page_token=token)
            scope = None if model_id is None else scope_of((hit.item for hit in found), model_id)
            return Answer(reply.SerializeToString(), scope)

        return await self._reads.read(("ListVersions", request.SerializeToString(deterministic=True)), read)

    async def UpdateVersion(self, request: pb.UpdateVersionRequest, context: Any) -> res.ModelVersion:
        command = codec.update_version(request)
        return await self._calls.change(
            request, res.ModelVersion, lambda tx, act: codec.to_version(versions.update(tx, act, command))
        )

    async def ArchiveVersion(self, request: pb.ArchiveVersionRequest, context: Any) -> res.ModelVersion:
        ref = names.version("name", request.name)
        return await self._calls.change(
            request,
            res.ModelVersion,
            lambda tx, act: codec.to_version(versions.archive(tx, act, ref, request.etag)),
        )
