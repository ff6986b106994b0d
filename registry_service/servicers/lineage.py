# ruff: noqa: N802 - methods are named as in the contract
"""Methods that answer questions about the graph."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import comparison, export, impact, lineage, names
from registry_service.calls import Calls, Page
from registry_service.codec import lineage as codec
from registry_service.codec.evidence import depth, direction
from registry_service.domain import LineageNode
from registry_service.export import graph, openlineage
from registry_service.lineage import LineagePage

# Whose records are read in one transaction.
_NODES = 100


class LineageMethods(ModelRegistryServiceServicer):
    """FindImpact, CompareVersions and ExportLineage."""

    _calls: Calls

    async def FindImpact(self, request: pb.FindImpactRequest, context: Any) -> pb.FindImpactResponse:
        start = names.node_or_states("node", request.node)
        page = Page(request, request.page_size, request.page_token, (str, int))
        found = await self._calls.read(
            lambda tx: impact.find(
                tx,
                request.node,
                start,
                live_only=request.live_only,
                now=self._calls.now(),
                after=page.after,
                limit=page.limit,
            )
        )
        items, token = page.cut(found, codec.to_impact, lambda item: item.key)
        return pb.FindImpactResponse(versions=items, next_page_token=token)

    async def CompareVersions(self, request: pb.CompareVersionsRequest, context: Any) -> pb.VersionDifference:
        left = names.version_or_alias("left", request.left)
        right = names.version_or_alias("right", request.right)
        return codec.to_difference(await self._calls.read(lambda tx: comparison.compare(tx, left, right)))

    async def ExportLineage(
        self, request: pb.ExportLineageRequest, context: Any
    ) -> AsyncIterator[pb.ExportLineageResponse]:
        start, form = names.node("node", request.node), codec.export_format(request.format)
        way, far = direction(request.direction), depth(request.depth)
        found = await self._calls.read(
            lambda tx: lineage.walk(
                tx, request.node, start, direction=way, depth=far, after=None, limit=export.MAX_EDGES
            )
        )
        _check_size(found)
        texts = {
            export.Format.DOT: lambda: graph.dot(found),
            export.Format.JSON: lambda: graph.node_link(found, way),
        }
        if form in texts:
            for text in texts[form]():
                yield pb.ExportLineageResponse(text=text)
            return
        for place in range(0, len(found.nodes), _NODES):
            for text in await self._events(found.nodes[place : place + _NODES]):
                yield pb.ExportLineageResponse(text=text)

    async def _events(self, nodes: tuple[LineageNode, ...]) -> list[str]:
        return await self._calls.read(lambda tx: openlineage.events(tx, nodes))


def _check_size(found: LineagePage) -> None:
    if found.more:
        message = f"depth reaches more than {export.MAX_EDGES:,} edges; ask for less"
        raise InvalidField(
            message, metadata={"field": "depth"}, violations=[FieldViolation("depth", message)]
        )
