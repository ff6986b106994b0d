"""Files to and from the registry: in bounded memory, verified, and going on after a break."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import grpc
from google.protobuf.message import Message

from plumbline.errors import DataLoss, Unavailable
from plumbline.registry.chunks import MAX_CHUNK_BYTES, chunk_message, chunk_of
from plumbline.registry.errors import CLASSES, UploadDigestMismatch, UploadOffsetMismatch
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.wire import translated

#: Tries in a row that bring nothing further before an upload is given up: half a minute, time for a restart.
UPLOAD_TRIES = 10

#: The same while no server has answered at all.
FIRST_TRIES = 3

_SERVICE = "/plumbline.registry.v1.ModelRegistryService"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

# After so many bytes of a broken upload, a server that tells of none of them has not noticed the break yet.
_SENT_IN_VAIN = 8 * MAX_CHUNK_BYTES
_ASK_AGAIN = 4

# Chunks that wait to be written.
_QUEUED = 8

# Bytes after which the system is asked to begin writing to the disk.
_FLUSH_BYTES = 16 * MAX_CHUNK_BYTES


class Files:
    """What `RegistryClient` does with files. Thread-safe."""

    def __init__(
        self, channel: grpc.Channel, target: str, metadata: Any, timeouts: tuple[float, float]
    ) -> None:
        """timeouts: seconds for a short call, and for a file up or down."""
        self._target, self._metadata = target, metadata
        self._timeout, self._transfer_timeout = timeouts
        self._status = channel.unary_unary(
            f"{_SERVICE}/GetUpload",
            request_serializer=pb.GetUploadRequest.SerializeToString,
            response_deserializer=pb.UploadStatus.FromString,
        )
        self._upload = channel.stream_unary(
            f"{_SERVICE}/UploadFile",
            request_serializer=_serialized,
            response_deserializer=res.ModelFile.FromString,
        )
        self._download = channel.unary_stream(
            f"{_SERVICE}/DownloadFile",
            request_serializer=pb.DownloadFileRequest.SerializeToString,
            response_deserializer=_download_part,
        )

    def get_upload(self, version: str, meta: res.ModelFile) -> pb.UploadStatus:
        """How much of an upload is there."""
        request = pb.GetUploadRequest(version=version, file=meta)
        with translated(CLASSES, self._target):
            status: pb.UploadStatus = self._status(request, timeout=self._timeout, metadata=self._metadata)
        return status

    def upload(self, version: str, source: Path, meta: res.ModelFile) -> res.ModelFile:
        """Sends what is not there yet; after a break it goes on by itself, up to UPLOAD_TRIES times in a row
        that brought nothing further. Raises the errors of UploadFile."""
        return _Upload(self, version, source, meta).run()

    def download(self, version: str, path: str, file: IO[bytes]) -> tuple[res.ModelFile, str]:
        """Writes a file of a version; what the registry says of it, and the digest of what came."""
        request = pb.DownloadFileRequest(version=version, path=path)
        meta = res.ModelFile()
        with translated(CLASSES, self._target), _Sink(file) as sink:
            call = self._download(request, timeout=self._transfer_timeout, metadata=self._metadata)
            try:
                for part in call:
                    if isinstance(part, memoryview):
                        sink.put(part)
                    else:
                        meta = part
            finally:
                call.cancel()
        return meta, sink.digest()

    def send(self, parts: Iterator[Message | bytes], timeout: float) -> res.ModelFile:
        """One try of an upload."""
        with translated(CLASSES, self._target):
            file: res.ModelFile = self._upload(parts, timeout=timeout, metadata=self._metadata)
        return file

    @property
    def transfer_timeout(self) -> float:
        """Seconds for a file."""
        return self._transfer_timeout


class _Upload:
    """One file on its way, over as many calls as it takes."""

    def __init__(self, files: Files, version: str, source: Path, meta: res.ModelFile) -> None:
        self._files, self._version, self._source, self._meta = files, version, source, meta
        self._deadline = time.monotonic() + files.transfer_timeout
        self._sent, self._met = 0, False

    def run(self) -> res.ModelFile:
        tries, offset = 0, 0
        # What fits in one chunk is sent sooner than asked about.
        ask = self._meta.size_bytes > MAX_CHUNK_BYTES
        while True:
            begun = offset
            try:
                offset = self._received(offset) if ask else 0
                return self._files.send(self._parts(offset), max(self._deadline - time.monotonic(), 0.001))
            except UploadDigestMismatch:
                if not offset:
                    raise
                # What was there from an earlier try is damaged, and gone now.
                offset, ask = 0, False
            except (Unavailable, UploadOffsetMismatch):
                tries = 1 if offset > begun else tries + 1
                pause, most = _pause(tries), UPLOAD_TRIES if self._met else FIRST_TRIES
                if tries >= most or time.monotonic() + pause > self._deadline:
                    raise
                time.sleep(pause)
                ask = True

    def _received(self, before: int) -> int:
        """Where to go on. Just after a break the server may not have noticed it: it is asked again."""
        for asked in range(1, _ASK_AGAIN + 1):
            there = self._ask()
            if there > before or self._sent < _SENT_IN_VAIN:
                return there
            time.sleep(_pause(asked))
        return self._ask()

    def _ask(self) -> int:
        there = int(self._files.get_upload(self._version, self._meta).received_bytes)
        self._met = True
        return there

    def _parts(self, offset: int) -> Iterator[Message | bytes]:
        self._sent = 0
        yield pb.UploadFileRequest(
            header=pb.UploadFileHeader(version=self._version, file=self._meta, offset=offset)
        )
        # No more than announced: a file that grew meanwhile is not the one that is uploaded.
        rest = self._meta.size_bytes - offset
        with self._source.open("rb", buffering=0) as file:
            file.seek(offset)
            while rest and (chunk := file.read(min(MAX_CHUNK_BYTES, rest))):
                rest -= len(chunk)
                self._sent += len(chunk)
                yield chunk_message(chunk)


def _pause(tries: int) -> float:
    return float(min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE))


class _Sink:
    """Digests and writes chunks on a thread of its own, while the next ones come in."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256 = file, hashlib.sha256()
        self._chunks: queue.Queue[memoryview | None] = queue.Queue(_QUEUED)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="registry-download", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def put(self, chunk: memoryview) -> None:
        """Waits for room. Raises what writing raised."""
        if self._error is not None:
            raise self._error
        self._chunks.put(chunk)

    def digest(self) -> str:
        """Of everything written."""
        return self._sha256.hexdigest()

    def _work(self) -> None:
        written = flushed = 0
        while (chunk := self._chunks.get()) is not None:
            # After an error the rest is taken and dropped, so that nobody waits for room.
            if self._error is not None:
                continue
            try:
                self._sha256.update(chunk)
                self._file.write(chunk)
            except OSError as error:
                self._error = error
            written += len(chunk)
            if written - flushed >= _FLUSH_BYTES:
                begin_writing(self._file.fileno(), flushed, written - flushed)
                flushed = written


def describe(source: Path, path: str, media_type: str) -> res.ModelFile:
    """A local file, as the registry is told of it."""
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return res.ModelFile(path=path or source.name, sha256=sha256, size_bytes=size, media_type=media_type)


def check_digest(version: str, meta: res.ModelFile, digest: str) -> None:
    """Raises DataLoss unless what came is what is recorded."""
    if digest != meta.sha256:
        raise DataLoss(
            f"{version} {meta.path}: the bytes received have sha256 {digest}, recorded is {meta.sha256}",
            metadata={"path": meta.path, "expected": meta.sha256, "actual": digest},
        )


def begin_writing(descriptor: int, start: int, length: int) -> None:
    """Has the system begin to write a range that was written to to the disk, so that a later fsync finds
    little to wait for. Linux does so when it is told that the range is not needed."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _serialized(part: Message | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.SerializeToString()


def _download_part(data: bytes) -> res.ModelFile | memoryview:
    """The header, or a chunk."""
    chunk = chunk_of(data)
    if chunk is not None:
        return chunk
    message = pb.DownloadFileResponse.FromString(data)
    return message.header if message.WhichOneof("part") == "header" else memoryview(message.chunk)
