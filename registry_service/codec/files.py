"""Files, uploads and the collection of garbage on the wire."""

from __future__ import annotations

from datetime import timedelta

from plumbline.errors import FieldViolation
from plumbline.registry.chunks import chunk_of
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import changes_pb2
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from registry_service import commands, names
from registry_service.artifacts import MARKED_FOR, Garbage, UploadStatus
from registry_service.domain import ModelFile

_MAX_SECONDS = 10 * 366 * 24 * 3600


def upload_part(data: bytes) -> pb.UploadFileHeader | memoryview | None:
    """What a message of an upload holds, None for neither. Raises DecodeError."""
    chunk = chunk_of(data)
    if chunk is not None:
        return chunk
    message = pb.UploadFileRequest.FromString(data)
    part = message.WhichOneof("part")
    if part == "header":
        return message.header
    return memoryview(message.chunk) if part == "chunk" else None


def upload_file(header: pb.UploadFileHeader) -> commands.UploadFile:
    file = header.file
    return commands.UploadFile(
        names.version("header.version", header.version),
        ModelFile(file.path, file.sha256, file.size_bytes, file.media_type),
        header.offset,
    )


def get_upload(request: pb.GetUploadRequest) -> commands.UploadFile:
    file = request.file
    return commands.UploadFile(
        names.version("version", request.version),
        ModelFile(file.path, file.sha256, file.size_bytes, file.media_type),
        prefix="",
    )


def to_status(status: UploadStatus) -> pb.UploadStatus:
    return pb.UploadStatus(received_bytes=status.received_bytes, complete=status.complete)


def marked_for(request: changes_pb2.CollectGarbageRequest) -> timedelta:
    seconds = request.min_age_seconds
    if not 0 <= seconds <= _MAX_SECONDS:
        raise _invalid("min_age_seconds", f"is {seconds}; it must be between 0 and {_MAX_SECONDS}")
    return timedelta(seconds=seconds) if seconds else MARKED_FOR


def is_sweep(request: changes_pb2.CollectGarbageRequest) -> bool:
    if request.phase not in (changes_pb2.GARBAGE_PHASE_MARK, changes_pb2.GARBAGE_PHASE_SWEEP):
        raise _invalid("phase", "must be MARK or SWEEP")
    return request.phase == changes_pb2.GARBAGE_PHASE_SWEEP


def to_garbage(found: Garbage) -> changes_pb2.CollectGarbageResponse:
    return changes_pb2.CollectGarbageResponse(
        blobs=found.blobs, bytes=found.size_bytes, uploads=found.uploads, sha256=found.sha256
    )


def _invalid(field: str, problem: str) -> InvalidField:
    message = f"{field} {problem}"
    return InvalidField(message, metadata={"field": field}, violations=[FieldViolation(field, message)])
