# ruff: noqa: N802 - methods are named as in the contract
"""Methods about runs, datasets, evaluations and lineage."""

from __future__ import annotations

from typing import Any

from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import datasets, lineage, names, runs, versions
from registry_service.calls import Calls, Page
from registry_service.codec import evidence as codec
from registry_service.codec.models import to_evaluation
from registry_service.filtering.fields import DATASETS, RUNS
from registry_service.listing import Listing


class EvidenceMethods(ModelRegistryServiceServicer):
    """StartRun to GetLineage."""

    _calls: Calls

    async def StartRun(self, request: pb.StartRunRequest, context: Any) -> res.TrainingRun:
        command = codec.start_run(request)
        return await self._calls.change(
            request, res.TrainingRun, lambda tx, act: codec.to_run(runs.start(tx, act, command))
        )

    async def LogRun(self, request: pb.LogRunRequest, context: Any) -> res.TrainingRun:
        command = codec.log_run(request)
        return await self._calls.change(
            request, res.TrainingRun, lambda tx, act: codec.to_run(runs.log(tx, act, command))
        )

    async def RenewRun(self, request: pb.RenewRunRequest, context: Any) -> res.TrainingRun:
        command = codec.renew_run(request)
        return await self._calls.write(lambda tx, act: codec.to_run(runs.renew(tx, act, command)))

    async def FinishRun(self, request: pb.FinishRunRequest, context: Any) -> res.TrainingRun:
        command = codec.finish_run(request)
        return await self._calls.change(
            request, res.TrainingRun, lambda tx, act: codec.to_run(runs.finish(tx, act, command))
        )

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> res.TrainingRun:
        name = names.run("name", request.name)
        return codec.to_run(await self._calls.read(lambda tx: runs.get(tx, name)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        page = Listing(request, RUNS)
        found = await self._calls.read(lambda tx: runs.search(tx, page.search, page.limit))
        items, token = page.cut(found, codec.to_run)
        return pb.ListRunsResponse(runs=items, next_page_token=token)

    async def RecordDataset(self, request: pb.RecordDatasetRequest, context: Any) -> res.Dataset:
        command = codec.record_dataset(request)
        return await self._calls.change(
            request, res.Dataset, lambda tx, act: codec.to_dataset(datasets.record(tx, act, command))
        )

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Any) -> res.Dataset:
        digest = names.dataset("name", request.name)
        return codec.to_dataset(await self._calls.read(lambda tx: datasets.get(tx, digest)))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Any) -> pb.ListDatasetsResponse:
        page = Listing(request, DATASETS)
        found = await self._calls.read(lambda tx: datasets.search(tx, page.search, page.limit))
        items, token = page.cut(found, codec.to_dataset)
        return pb.ListDatasetsResponse(datasets=items, next_page_token=token)

    async def RecordEvaluation(self, request: pb.RecordEvaluationRequest, context: Any) -> res.Evaluation:
        command = codec.record_evaluation(request)
        return await self._calls.change(
            request,
            res.Evaluation,
            lambda tx, act: to_evaluation(versions.record_evaluation(tx, act, command)),
        )

    async def GetLineage(self, request: pb.GetLineageRequest, context: Any) -> pb.GetLineageResponse:
        start = names.node("node", request.node)
        direction, depth = codec.direction(request.direction), codec.depth(request.depth)
        page = Page(request, request.page_size, request.page_token, lineage.EDGE_KEY)
        found = await self._calls.read(
            lambda tx: lineage.walk(
                tx, request.node, start, direction=direction, depth=depth, after=page.after, limit=page.size
            )
        )
        return pb.GetLineageResponse(
            nodes=[codec.to_node(node) for node in found.nodes],
            edges=[codec.to_edge(edge) for edge in found.edges],
            next_page_token="" if found.last is None else page.token(found.last),
            truncated=found.truncated,
        )
