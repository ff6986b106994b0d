"""Calls about where things came from and what came from them."""

from __future__ import annotations

from collections.abc import Iterator

from plumbline.calls import Client
from plumbline.registry.naming import node_name, version_name
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub

_LARGEST_PAGE = 1_000
_EXPORT_SECONDS = 600.0


class LineageCalls(Client):
    """A part of `RegistryClient`. Nodes are named in full; of models, versions and aliases "m", "m/3" and
    "m@champion" will do."""

    _stub: ModelRegistryServiceStub

    def get_lineage(
        self,
        node: str,
        *,
        direction: pb.LineageDirection.ValueType = pb.LINEAGE_DIRECTION_UPSTREAM,
        depth: int = 0,
    ) -> pb.GetLineageResponse:
        """The whole graph around a node, all pages joined; nodes are unique."""
        whole, seen = pb.GetLineageResponse(), set[str]()
        request = pb.GetLineageRequest(node=node_name(node), direction=direction, depth=depth)
        for page in self._pages(self._stub.GetLineage, request):
            whole.edges.extend(page.edges)
            whole.nodes.extend(item for item in page.nodes if item.name not in seen)
            seen.update(item.name for item in page.nodes)
            whole.truncated = whole.truncated or page.truncated
        return whole

    def find_impact(self, node: str, *, live_only: bool = False) -> Iterator[pb.VersionImpact]:
        """Every version that a node reaches, with its aliases and deployments, by model and newest first.

        node: also "featureViews/{project}/{view}" for every state of it (services alike), and
        "codeRevisions/" with 7 or more digits of a commit. Raises NodeNotFound.
        """
        request = pb.FindImpactRequest(node=node_name(node), live_only=live_only, page_size=_LARGEST_PAGE)
        for page in self._pages(self._stub.FindImpact, request):
            yield from page.versions

    def compare_versions(self, left: str, right: str) -> pb.VersionDifference:
        """What differs from left to right. Raises VersionNotFound, AliasNotFound."""
        return self._call(
            self._stub.CompareVersions,
            pb.CompareVersionsRequest(left=version_name(left), right=version_name(right)),
        )

    def export_lineage(
        self,
        node: str,
        format: pb.LineageFormat.ValueType,  # noqa: A002 - as the contract calls it
        *,
        direction: pb.LineageDirection.ValueType = pb.LINEAGE_DIRECTION_UPSTREAM,
        depth: int = 0,
    ) -> Iterator[str]:
        """The graph around a node: OPENLINEAGE event by event, DOT and JSON in pieces of one text."""
        request = pb.ExportLineageRequest(
            node=node_name(node), direction=direction, depth=depth, format=format
        )
        for part in self._stream(self._stub.ExportLineage, request, _EXPORT_SECONDS):
            yield part.text
