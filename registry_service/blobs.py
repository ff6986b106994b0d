"""Artifact bytes in a local folder, by their sha256.

artifacts/sha256/ab/cd/abcd…   whole files, read-only, never changed
artifacts/incoming/….part      files being received; each is locked by the process that writes it
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import threading
import uuid
from pathlib import Path
from typing import BinaryIO

from plumbline.registry.errors import BlobCorrupt, UploadDigestMismatch, UploadSizeMismatch
from registry_service.domain import ModelFile

_log = logging.getLogger("plumbline.registry.blobs")

#: Bytes per chunk of a read: half of what a chunk of the contract may hold.
CHUNK_BYTES = 512 * 1024


class LocalBlobs:
    """`ports.BlobStore` in a folder of this machine; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._blobs, self._incoming = folder / "sha256", folder / "incoming"

    def prepare(self) -> None:
        """Creates the folders, for this user alone, and removes what crashed processes left.

        Raises OSError when the folder cannot be used.
        """
        for folder in (self._blobs, self._incoming):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._incoming.glob("*.part"):
            if _remove_if_stale(path):
                _log.info("removed %s, left by a process that ended during an upload", path.name)

    def receive(self, file: ModelFile) -> LocalIncoming:
        """Raises OSError when no file can be created."""
        while True:
            path = self._incoming / f"{uuid.uuid4().hex}.part"
            stream = path.open("xb")
            fcntl.flock(stream, fcntl.LOCK_EX)
            # Another process may have taken the file for stale before it was locked.
            if path.exists():
                return LocalIncoming(file, stream, path, self._path(file.sha256))
            stream.close()

    def open(self, file: ModelFile) -> LocalOutgoing:
        path = self._path(file.sha256)
        try:
            # A link in the place of a blob could lead anywhere.
            stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
        except OSError as error:
            _log.error("blob %s cannot be read: %s", file.sha256, error)
            raise corrupt(file, "unreadable") from error
        size = os.fstat(stream.fileno()).st_size
        if size != file.size_bytes:
            stream.close()
            raise corrupt(file, f"{size} bytes instead of {file.size_bytes}")
        try:
            return LocalOutgoing(file, stream)
        except BlobCorrupt:
            stream.close()
            raise

    def measure(self, sha256: str) -> tuple[str, int] | None:
        digest, size = hashlib.sha256(), 0
        try:
            stream = self._path(sha256).open("rb", buffering=0)
        except FileNotFoundError:
            return None
        with stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return digest.hexdigest(), size

    def _path(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256[2:4] / sha256


class LocalIncoming:
    """`ports.Incoming`: a locked scratch file that becomes the blob by a rename."""

    def __init__(self, file: ModelFile, stream: BinaryIO, scratch: Path, target: Path) -> None:
        self._file, self._stream = file, stream
        self._scratch, self._target = scratch, target
        self._sha256, self._size = hashlib.sha256(), 0
        # A caller that gave up may discard while a write of its is still running.
        self._lock = threading.Lock()

    def write(self, chunk: bytes) -> None:
        with self._lock:
            self._size += len(chunk)
            if self._size > self._file.size_bytes:
                raise self._size_mismatch("at least ")
            self._sha256.update(chunk)
            self._stream.write(chunk)

    def keep(self) -> None:
        with self._lock:
            self._keep()

    def discard(self) -> None:
        with self._lock:
            self._scratch.unlink(missing_ok=True)
            self._stream.close()

    def _keep(self) -> None:
        if self._size != self._file.size_bytes:
            raise self._size_mismatch("")
        actual = self._sha256.hexdigest()
        if actual != self._file.sha256:
            raise UploadDigestMismatch(
                f"{self._file.path!r}: the bytes received have sha256 {actual}, announced was "
                f"{self._file.sha256}; nothing was kept, upload it again",
                metadata={"path": self._file.path, "expected": self._file.sha256, "actual": actual},
            )
        self._stream.flush()
        os.fchmod(self._stream.fileno(), 0o400)
        os.fsync(self._stream.fileno())
        self._target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Also over a blob of this digest that is there: these bytes are known to be right.
        os.replace(self._scratch, self._target)
        for folder in (self._target.parent, self._target.parent.parent, self._target.parent.parent.parent):
            _sync(folder)

    def _size_mismatch(self, least: str) -> UploadSizeMismatch:
        return UploadSizeMismatch(
            f"{self._file.path!r}: {least}{self._size} bytes came, announced were "
            f"{self._file.size_bytes}; nothing was kept, upload it again",
            metadata={
                "path": self._file.path,
                "expected": str(self._file.size_bytes),
                "actual": str(self._size),
            },
        )


class LocalOutgoing:
    """`ports.Outgoing`: always one chunk behind the file, so that the last one waits for the digest."""

    def __init__(self, file: ModelFile, stream: BinaryIO) -> None:
        self._file, self._stream = file, stream
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()
        self._held = self._next()

    def read(self) -> bytes:
        with self._lock:
            return self._read()

    def close(self) -> None:
        with self._lock:
            self._stream.close()

    def _read(self) -> bytes:
        if not self._held:
            return b""
        chunk, self._held = self._held, self._next()
        if not self._held:
            actual = self._sha256.hexdigest()
            if actual != self._file.sha256:
                raise corrupt(self._file, actual)
        return chunk

    def _next(self) -> bytes:
        try:
            chunk = self._stream.read(CHUNK_BYTES)
        except OSError as error:
            raise corrupt(self._file, f"unreadable ({error.strerror})") from error
        self._sha256.update(chunk)
        return chunk


def corrupt(file: ModelFile, actual: str) -> BlobCorrupt:
    """The error for stored bytes that are not what was recorded."""
    return BlobCorrupt(
        f"the stored bytes of {file.path!r} are damaged: recorded is sha256 {file.sha256}, found {actual}. "
        "Restore the artifact from a backup, or upload it in a new version",
        metadata={"sha256": file.sha256, "actual": actual},
    )


def _remove_if_stale(path: Path) -> bool:
    """Removes a scratch file no living process has locked."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
        return True
    return False


def _sync(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
