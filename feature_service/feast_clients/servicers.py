"""The gRPC services of Feast's own servers, on the use cases of this one: decode, call, encode.

GrpcFeatureServer is what `feast listen` serves, feast.serving.ServingService what its Go and Java servers do.
Errors are typed and become their status in the interceptor, as everywhere.
"""

from __future__ import annotations

import functools
from typing import Any

from feast import __version__ as feast_version
from feast.protos.feast.serving import GrpcServer_pb2 as server_pb
from feast.protos.feast.serving import ServingService_pb2 as serving_pb
from feast.protos.feast.serving.GrpcServer_pb2_grpc import (
    GrpcFeatureServerServicer,
    add_GrpcFeatureServerServicer_to_server,
)
from feast.protos.feast.serving.ServingService_pb2_grpc import (
    ServingServiceServicer,
    add_ServingServiceServicer_to_server,
)

from feature_service.feast_clients import codec as feast_codec
from feature_service.feast_clients.calls import FeastCalls, destination
from feature_service.writes.push import Destination
from servicekit.server import Service

_HOT = frozenset({"GetOnlineFeatures"})


class _Reads:
    """GetOnlineFeatures, which both services have."""

    def __init__(self, calls: FeastCalls) -> None:
        self._calls = calls

    async def GetOnlineFeatures(  # noqa: N802
        self, request: serving_pb.GetOnlineFeaturesRequest, context: Any
    ) -> serving_pb.GetOnlineFeaturesResponse:
        answer = await self._calls.read(
            feast_codec.selection(request),
            feast_codec.columns(request),
            full_names=request.full_feature_names,
            remaining=context.time_remaining(),
        )
        return feast_codec.online_features(answer, versions=request.include_feature_view_version_metadata)


class FeastFeatureServer(_Reads, GrpcFeatureServerServicer):
    """GrpcFeatureServer. A reply is sent when the row can be read."""

    async def Push(self, request: server_pb.PushRequest, context: Any) -> server_pb.PushResponse:  # noqa: N802
        to = destination(request.to)
        row = feast_codec.row(request.features, request.typed_features)
        await self._calls.write(request.stream_feature_view, row, to)
        return server_pb.PushResponse(status=True)

    async def WriteToOnlineStore(  # noqa: N802
        self, request: server_pb.WriteToOnlineStoreRequest, context: Any
    ) -> server_pb.WriteToOnlineStoreResponse:
        row = feast_codec.row(request.features, request.typed_features)
        await self._calls.write(request.feature_view_name, row, Destination.ONLINE)
        return server_pb.WriteToOnlineStoreResponse(status=True)


class FeastServing(_Reads, ServingServiceServicer):
    """feast.serving.ServingService."""

    async def GetFeastServingInfo(  # noqa: N802
        self, request: serving_pb.GetFeastServingInfoRequest, context: Any
    ) -> serving_pb.GetFeastServingInfoResponse:
        return serving_pb.GetFeastServingInfoResponse(version=feast_version)


def feast_services(calls: FeastCalls) -> list[Service]:
    """Both services, under the names that Feast's generated stubs call."""
    return [
        Service(
            "GrpcFeatureServer",
            functools.partial(add_GrpcFeatureServerServicer_to_server, FeastFeatureServer(calls)),
            hot=_HOT,
        ),
        Service(
            "feast.serving.ServingService",
            functools.partial(add_ServingServiceServicer_to_server, FeastServing(calls)),
            hot=_HOT,
        ),
    ]
