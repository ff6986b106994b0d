"""Reading stored bytes so that altered ones never come out whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator

from plumbline.channel import CLIENT_MIN_MESSAGE_BYTES
from plumbline.registry.errors import BlobCorrupt
from registry_service.domain import ModelFile

#: Bytes per chunk of a read: whole pages, in a message below the least limit that a client can have.
CHUNK_BYTES = CLIENT_MIN_MESSAGE_BYTES - 4096


class Verified:
    """`ports_blobs.Outgoing`: always one chunk behind the source: the last one waits for the digest."""

    def __init__(self, file: ModelFile, chunks: Iterator[bytes], close: Callable[[], None]) -> None:
        """close: frees what the chunks come from; called once."""
        self._file, self._chunks, self._free = file, chunks, close
        self._sha256, self._size = hashlib.sha256(), 0
        # A caller that gave up may close while a read of its is still running.
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._held = self._next()
        except BaseException:
            close()
            raise

    def read(self) -> bytes:
        with self._lock:
            if not self._held or self._closed:
                return b""
            chunk, self._held = self._held, self._next()
            if not self._held:
                self._check()
            return chunk

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._free()

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._sha256.update(chunk)
        self._size += len(chunk)
        return chunk

    def _check(self) -> None:
        if self._size != self._file.size_bytes:
            raise corrupt(self._file, f"{self._size} bytes instead of {self._file.size_bytes}")
        actual = self._sha256.hexdigest()
        if actual != self._file.sha256:
            raise corrupt(self._file, actual)


def corrupt(file: ModelFile, actual: str) -> BlobCorrupt:
    """The error for stored bytes that are not what was recorded."""
    return BlobCorrupt(
        f"the stored bytes of {file.path!r} are damaged: recorded is sha256 {file.sha256}, found {actual}. "
        "Restore the artifact from a backup, or upload it in a new version",
        metadata={"sha256": file.sha256, "actual": actual},
    )


def measure(chunks: Iterator[bytes]) -> tuple[str, int]:
    """The sha256 and the number of all these bytes."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
    return sha256.hexdigest(), size
