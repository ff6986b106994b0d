# ruff: noqa: N802 - methods are named as in the contract
"""Methods that stream files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from plumbline.errors import FieldViolation
from plumbline.registry.chunks import MAX_CHUNK_BYTES, chunk_message
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import changes_pb2
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import names, uploads, versions
from registry_service.artifacts import UploadStatus
from registry_service.calls import Calls
from registry_service.codec import files as codec
from registry_service.codec.models import to_file
from registry_service.collecting import Collector
from registry_service.transfers import Transfers

#: What a message of an upload is decoded to, see `codec.files.upload_part`.
Part = pb.UploadFileHeader | memoryview | None


class FileMethods(ModelRegistryServiceServicer):
    """UploadFile, GetUpload, DownloadFile and CollectGarbage."""

    _calls: Calls
    _transfers: Transfers
    _collector: Collector

    async def UploadFile(  # type: ignore[override]  # its messages are decoded by `codec.upload_part`
        self, request_iterator: AsyncIterator[Part], context: Any
    ) -> res.ModelFile:
        header = await anext(request_iterator, None)
        if not isinstance(header, pb.UploadFileHeader):
            raise _invalid("header", "the first message of an upload must be its header")
        command = codec.upload_file(header)
        upload, present = await self._calls.read(lambda tx: uploads.check(tx, command))
        if present is not None:
            return to_file(present)
        holds = self._transfers.holds
        file = await self._transfers.receive(
            upload,
            command.offset,
            _chunks(request_iterator),
            lambda: self._calls.write(lambda tx, act: uploads.register(tx, act, command, holds)),
        )
        return to_file(file)

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.UploadStatus:
        command = codec.get_upload(request)
        upload, present = await self._calls.read(lambda tx: uploads.check(tx, command))
        received = command.file.size_bytes if present else await self._transfers.received(upload)
        return codec.to_status(UploadStatus(received, complete=present is not None))

    async def DownloadFile(  # type: ignore[override]  # chunks are messages already
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse | bytes]:
        ref = names.version("version", request.version)
        file = await self._calls.read(lambda tx: versions.find_file(tx, ref, request.path))
        yield pb.DownloadFileResponse(header=to_file(file))
        async for chunk in self._transfers.send(file):
            yield chunk_message(chunk)

    async def CollectGarbage(
        self, request: changes_pb2.CollectGarbageRequest, context: Any
    ) -> changes_pb2.CollectGarbageResponse:
        marked_for = codec.marked_for(request)
        if codec.is_sweep(request):
            found = await self._collector.sweep(marked_for, dry_run=request.dry_run)
        else:
            found = await self._collector.mark(dry_run=request.dry_run)
        return codec.to_garbage(found)


def upload_handler(servicer: FileMethods, service: str) -> grpc.GenericRpcHandler:
    """UploadFile with messages that are not copied when they are decoded. To be added before the generated
    handlers: the first one that knows a method has it."""
    method = grpc.stream_unary_rpc_method_handler(
        servicer.UploadFile,
        request_deserializer=codec.upload_part,
        response_serializer=res.ModelFile.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(service, {"UploadFile": method})


async def _chunks(parts: AsyncIterator[Part]) -> AsyncIterator[memoryview]:
    async for part in parts:
        if not isinstance(part, memoryview):
            raise _invalid("chunk", "every message of an upload after its header must be a chunk")
        if len(part) > MAX_CHUNK_BYTES:
            raise _invalid("chunk", f"a chunk has {len(part)} bytes; at most {MAX_CHUNK_BYTES}")
        yield part


def _invalid(field: str, message: str) -> InvalidField:
    return InvalidField(message, metadata={"field": field}, violations=[FieldViolation(field, message)])
