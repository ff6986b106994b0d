"""Artifact bytes in a bucket of S3 or of what speaks like it, by their sha256: {prefix}/sha256/ab/cd/abcd…"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from plumbline.registry.errors import StorageFull, StorageUnavailable
from registry_service.artifacts import StoredBlob
from registry_service.domain import ModelFile
from registry_service.stores.verified import CHUNK_BYTES, Verified, corrupt, measure

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_log = logging.getLogger("plumbline.registry.blobs")

# Bytes of one request up: the least that S3 takes. An object may have 10,000 of them, 50 GB.
_PART_BYTES = 5 * 1024 * 1024

# Parts of one upload that are on their way at once, each in memory.
_PARTS_AT_ONCE = 2

# Bytes of one request down.
_RANGE_BYTES = 4 * 1024 * 1024

_FOLDER = "sha256/"

# What stores that are full say, each in its own words.
_FULL = ("StorageFull", "QuotaExceeded", "InsufficientCapacity", "507 ")

# For bytes. Each request is of one part, and tried again when it breaks.
_PATIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
_RETRIES: RetryConfig = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}

# For what is asked inside of a transaction, while other changes wait.
_BRIEF: ClientConfig = {"connect_timeout": timedelta(seconds=1), "timeout": timedelta(seconds=2)}
_ONE_RETRY: RetryConfig = {"max_retries": 1, "retry_timeout": timedelta(seconds=3)}


class S3Blobs:
    """`ports_blobs.BlobStore` in a bucket; any number of processes may share it."""

    def __init__(self, bucket: str, prefix: str, *, allow_http: bool = False) -> None:
        """Region, endpoint and credentials are those of the AWS_… variables. allow_http: for an endpoint
        without TLS."""
        self._place = f"s3://{bucket}/{prefix}"
        self._store, self._brief = (
            S3Store(
                bucket,
                prefix=prefix or None,
                client_options={**client, "allow_http": allow_http},
                retry_config=retry,
            )
            for client, retry in ((_PATIENT, _RETRIES), (_BRIEF, _ONE_RETRY))
        )

    def prepare(self) -> None:
        try:
            next(iter(obstore.list(self._store, _FOLDER, chunk_size=1)), None)
        except (BaseError, FileNotFoundError) as error:
            raise OSError(None, f"{self._place} cannot be listed: {_first_line(error)}") from error

    def publish(self, file: ModelFile, source: Path) -> None:
        with source.open("rb") as stream, self._available(file.path):
            # An empty object has no parts.
            obstore.put(
                self._store,
                _key(file.sha256),
                stream,
                use_multipart=file.size_bytes > _PART_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def holds(self, file: ModelFile) -> bool:
        with self._available(file.path):
            return self._size(self._brief, file.sha256) == file.size_bytes

    def open(self, file: ModelFile) -> Verified:
        with self._available(file.path):
            size = self._size(self._store, file.sha256)
        if size != file.size_bytes:
            found = "nothing" if size is None else f"{size} bytes instead of {file.size_bytes}"
            _log.error("blob %s: %s is stored in %s", file.sha256, found, self._place)
            raise corrupt(file, found)
        return Verified(file, self._chunks(file.sha256, size, file.path), lambda: None)

    def measure(self, sha256: str) -> tuple[str, int] | None:
        with self._available(sha256):
            size = self._size(self._store, sha256)
        return None if size is None else measure(self._chunks(sha256, size, sha256))

    def remove(self, sha256: str) -> None:
        with self._available(sha256):
            obstore.delete(self._brief, _key(sha256))

    def stored(self) -> Iterator[StoredBlob]:
        with self._available(self._place):
            for page in obstore.list(self._store, _FOLDER, chunk_size=1000):
                for item in page:
                    digest = item["path"].rpartition("/")[2]
                    if item["path"].endswith(_key(digest)):
                        yield StoredBlob(digest, item["size"], item["last_modified"])

    def _size(self, store: S3Store, sha256: str) -> int | None:
        try:
            return obstore.head(store, _key(sha256))["size"]
        except FileNotFoundError:
            return None

    def _chunks(self, sha256: str, size: int, path: str) -> Iterator[bytes]:
        """By ranges: each request is bounded in time and memory, and can be tried again."""
        for start in range(0, size, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size)
            with self._available(path):
                part = memoryview(obstore.get_range(self._store, _key(sha256), start=start, end=end))
            for place in range(0, len(part), CHUNK_BYTES):
                yield bytes(part[place : place + CHUNK_BYTES])

    @contextmanager
    def _available(self, path: str) -> Iterator[None]:
        """Turns what the store says into the registry's errors; the details go to the log."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            _log.warning("%s does not answer as it should: %s", self._place, error)
            if any(word in str(error) for word in _FULL):
                raise StorageFull(
                    f"the object store has no space for {path!r}; nothing of it was kept",
                    metadata={"path": path},
                ) from error
            raise StorageUnavailable(
                "the registry's object store cannot be reached, or refused; try again",
                metadata={"path": path},
            ) from error


def _key(sha256: str) -> str:
    return f"{_FOLDER}{sha256[:2]}/{sha256[2:4]}/{sha256}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
