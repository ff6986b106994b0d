"""The ceilings: servers that answer every call with the bytes of a file.

    python -m benchmarks.cached_server FILE bare|same

same: feature_service's own kind of server (logs, metrics, trace ids, limits, and the methods of its service),
which parses the request and reads nothing: what is left to gain in feature_service. bare: grpc.aio and uvloop
alone, which parses no request, logs nothing, counts nothing and has one method: the runtime's own cost of a
call with such a reply. Prints its port.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import (
    FeatureRetrievalServiceServicer,
    add_FeatureRetrievalServiceServicer_to_server,
)
from servicekit.garbage import settle
from servicekit.logs import configure_logging
from servicekit.server import GrpcServer, Service
from servicekit.settings import ServerSettings
from servicekit.telemetry import build_telemetry


class _Cached(FeatureRetrievalServiceServicer):
    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    async def GetOnlineFeatures(  # type: ignore[override]  # noqa: N802 - the reply as it goes over the wire
        self, request: pb.GetOnlineFeaturesRequest, context: Any
    ) -> bytes:
        return self._reply


async def _same(reply: bytes) -> tuple[Any, int]:
    configure_logging("cached")
    service = Service(
        "plumbline.features.v1.FeatureRetrievalService",
        functools.partial(add_FeatureRetrievalServiceServicer_to_server, _Cached(reply)),  # type: ignore[abstract]
        hot=frozenset({"GetOnlineFeatures", "GetFeatureMatrix"}),
    )
    server = GrpcServer(ServerSettings(), [service], build_telemetry("cached"))
    port = await server.start()
    settle()
    return server, port


async def _bare(reply: bytes) -> tuple[Any, int]:
    async def answer(request: bytes, context: Any) -> bytes:
        return reply

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_registered_method_handlers("Cached", {"Get": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def serve(reply: bytes, kind: str) -> None:
    """Until the process is ended."""
    server, port = await (_same if kind == "same" else _bare)(reply)
    print(port, flush=True)
    await asyncio.Event().wait()
    del server  # which would end with its last reference


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]).read_bytes(), sys.argv[2]))
