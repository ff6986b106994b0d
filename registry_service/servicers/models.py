# ruff: noqa: N802 - methods are named as in the contract
"""Methods about models and aliases."""

from __future__ import annotations

from typing import Any

from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import aliases, models, names
from registry_service.calls import Calls, Page
from registry_service.codec import models as codec
from registry_service.codec.governance import rollback_alias
from registry_service.codec.values import from_timestamp
from registry_service.filtering.fields import MODELS
from registry_service.listing import Listing
from registry_service.ports import Transaction
from registry_service.reading import Answer, CachedReads, version_answer
from registry_service.rollback import roll_back


class ModelMethods(ModelRegistryServiceServicer):
    """CreateModel to ArchiveModel."""

    _calls: Calls
    _reads: CachedReads

    async def CreateModel(self, request: pb.CreateModelRequest, context: Any) -> res.Model:
        command = codec.create_model(request)
        return await self._calls.change(
            request, res.Model, lambda tx, act: codec.to_model(models.create(tx, act, command))
        )

    async def GetModel(  # type: ignore[override] # the reply as it goes over the wire
        self, request: pb.GetModelRequest, context: Any
    ) -> bytes:
        name = names.model("name", request.name)

        def read(transaction: Transaction) -> Answer:
            model = models.get(transaction, name)
            return Answer(codec.to_model(model).SerializeToString(), model.id)

        return await self._reads.read(("GetModel", name), read)

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        page = Listing(request, MODELS)
        found = await self._calls.read(
            lambda tx: models.search(tx, page.search, archived=request.show_archived, limit=page.limit)
        )
        items, token = page.cut(found, codec.to_model)
        return pb.ListModelsResponse(models=items, next_page_token=token)

    async def UpdateModel(self, request: pb.UpdateModelRequest, context: Any) -> res.Model:
        command = codec.update_model(request)
        return await self._calls.change(
            request, res.Model, lambda tx, act: codec.to_model(models.update(tx, act, command))
        )

    async def RenameModel(self, request: pb.RenameModelRequest, context: Any) -> res.Model:
        name = names.model("name", request.name)
        new = names.model_id("new_model_id", request.new_model_id)
        return await self._calls.change(
            request,
            res.Model,
            lambda tx, act: codec.to_model(models.rename(tx, act, name, new, request.etag)),
        )

    async def RestoreModel(self, request: pb.RestoreModelRequest, context: Any) -> res.Model:
        name = names.model("name", request.name)
        return await self._calls.change(
            request, res.Model, lambda tx, act: codec.to_model(models.restore(tx, act, name, request.etag))
        )

    async def ArchiveModel(self, request: pb.ArchiveModelRequest, context: Any) -> res.Model:
        name = names.model("name", request.name)
        return await self._calls.change(
            request, res.Model, lambda tx, act: codec.to_model(models.archive(tx, act, name, request.etag))
        )


class AliasMethods(ModelRegistryServiceServicer):
    """SetAlias to ListAliasHistory."""

    _calls: Calls
    _reads: CachedReads

    async def SetAlias(self, request: pb.SetAliasRequest, context: Any) -> res.Alias:
        command = codec.set_alias(request)
        return await self._calls.change(
            request, res.Alias, lambda tx, act: codec.to_alias(aliases.set_alias(tx, act, command))
        )

    async def ClearAlias(self, request: pb.ClearAliasRequest, context: Any) -> res.AliasEvent:
        command = codec.clear_alias(request)
        return await self._calls.change(
            request, res.AliasEvent, lambda tx, act: codec.to_event(aliases.clear(tx, act, command))
        )

    async def RollbackAlias(self, request: pb.RollbackAliasRequest, context: Any) -> res.Alias:
        command = rollback_alias(request)
        return await self._calls.change(
            request, res.Alias, lambda tx, act: codec.to_alias(roll_back(tx, act, command))
        )

    async def ResolveAlias(  # type: ignore[override] # as above
        self, request: pb.ResolveAliasRequest, context: Any
    ) -> bytes:
        ref = names.alias("name", request.name)
        as_of = from_timestamp("as_of", request.as_of) if request.HasField("as_of") else None

        def read(transaction: Transaction) -> Answer:
            alias, version = aliases.resolve(transaction, ref, as_of)
            reply = pb.ResolveAliasResponse(alias=codec.to_alias(alias), version=codec.to_version(version))
            return version_answer(reply.SerializeToString(), version)

        return await self._reads.read(("ResolveAlias", ref, as_of), read)

    async def ListAliasHistory(
        self, request: pb.ListAliasHistoryRequest, context: Any
    ) -> pb.ListAliasHistoryResponse:
        parent = names.model_or_alias("parent", request.parent)
        page = Page(request, request.page_size, request.page_token, (int,))
        before = page.after[0] if page.after else None
        found = await self._calls.read(
            lambda tx: aliases.history_page(tx, parent, before=before, limit=page.limit)
        )
        items, token = page.cut(found, codec.to_event, lambda event: (event.sequence,))
        return pb.ListAliasHistoryResponse(events=items, next_page_token=token)
