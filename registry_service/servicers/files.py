# ruff: noqa: N802 - methods are named as in the contract
"""Methods that stream files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import names, versions
from registry_service.calls import Calls
from registry_service.codec import models as codec
from registry_service.transfers import Transfers

#: The longest chunk of an upload.
MAX_CHUNK_BYTES = 1024 * 1024


class FileMethods(ModelRegistryServiceServicer):
    """UploadFile and DownloadFile."""

    _calls: Calls
    _transfers: Transfers

    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: Any
    ) -> res.ModelFile:
        first = await anext(request_iterator, pb.UploadFileRequest())
        if first.WhichOneof("part") != "header":
            raise _invalid("header", "the first message of an upload must be its header")
        command = codec.upload_file(first.header)
        await self._calls.read(lambda tx: versions.check_upload(tx, command))
        await self._transfers.receive(command.file, _chunks(request_iterator))
        return codec.to_file(await self._calls.write(lambda tx, act: versions.add_file(tx, act, command)))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        ref = names.version("version", request.version)
        file = await self._calls.read(lambda tx: versions.find_file(tx, ref, request.path))
        yield pb.DownloadFileResponse(header=codec.to_file(file))
        async for chunk in self._transfers.send(file):
            yield pb.DownloadFileResponse(chunk=chunk)


async def _chunks(messages: AsyncIterator[pb.UploadFileRequest]) -> AsyncIterator[bytes]:
    async for message in messages:
        if message.WhichOneof("part") != "chunk":
            raise _invalid("chunk", "every message of an upload after its header must be a chunk")
        if len(message.chunk) > MAX_CHUNK_BYTES:
            raise _invalid("chunk", f"a chunk has {len(message.chunk)} bytes; at most {MAX_CHUNK_BYTES}")
        yield message.chunk


def _invalid(field: str, message: str) -> InvalidField:
    return InvalidField(message, metadata={"field": field}, violations=[FieldViolation(field, message)])
