"""Artifact bytes in a local folder, by their sha256.

artifacts/sha256/ab/cd/abcd…   whole files, read-only, never changed
artifacts/publishing/…         names that a blob has for a moment, before it gets its own
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from registry_service.artifacts import StoredBlob
from registry_service.domain import ModelFile
from registry_service.stores.verified import CHUNK_BYTES, Verified, corrupt, measure

_log = logging.getLogger("plumbline.registry.blobs")

# What a file system without hard links answers.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)

_SHA256_DIGITS = 64

# A blob has its first name for much less.
_PUBLISHING_SECONDS = 3600.0


class LocalBlobs:
    """`ports_blobs.BlobStore` in a folder of this machine; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._blobs, self._publishing = folder / "sha256", folder / "publishing"

    def prepare(self) -> None:
        for folder in (self._blobs, self._publishing):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        oldest = time.time() - _PUBLISHING_SECONDS
        for path in self._publishing.iterdir():
            with contextlib.suppress(FileNotFoundError):
                # When it got this name, not when its bytes were written.
                if path.lstat().st_ctime < oldest:
                    path.unlink()

    def publish(self, file: ModelFile, source: Path) -> None:
        target = self._path(file.sha256)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        link = self._publishing / uuid.uuid4().hex
        try:
            # The blob and the staged file are one: its bytes are never written to again, see `Staging`.
            source.chmod(0o400)
            try:
                os.link(source, link)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _copy(source, link)
            # Also over a blob of this digest that is there: these bytes are known to be right.
            os.replace(link, target)
        finally:
            # Where both are the same file already, renaming one to the other leaves both.
            link.unlink(missing_ok=True)
        for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
            sync_folder(folder)

    def holds(self, file: ModelFile) -> bool:
        try:
            return self._path(file.sha256).lstat().st_size == file.size_bytes
        except FileNotFoundError:
            return False

    def open(self, file: ModelFile) -> Verified:
        try:
            descriptor = self._open(file.sha256)
        except OSError as error:
            _log.error("blob %s cannot be read: %s", file.sha256, error)
            raise corrupt(file, "unreadable") from error
        size = os.fstat(descriptor).st_size
        if size != file.size_bytes:
            os.close(descriptor)
            raise corrupt(file, f"{size} bytes instead of {file.size_bytes}")
        return Verified(file, self._chunks(file, descriptor), partial(os.close, descriptor))

    def measure(self, sha256: str) -> tuple[str, int] | None:
        try:
            descriptor = self._open(sha256)
        except FileNotFoundError:
            return None
        try:
            return measure(iter(partial(os.read, descriptor, CHUNK_BYTES), b""))
        finally:
            os.close(descriptor)

    def remove(self, sha256: str) -> None:
        # Nobody waits for the disk: what a power cut brings back has no record, and is found again.
        self._path(sha256).unlink(missing_ok=True)

    def stored(self) -> Iterator[StoredBlob]:
        # Folder by folder: of a great many names only those of one folder are in memory.
        for folder in sorted(self._blobs.glob("??/??")):
            yield from _blobs_in(folder)

    def _path(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256[2:4] / sha256

    def _open(self, sha256: str) -> int:
        # A link in the place of a blob could lead anywhere.
        return os.open(self._path(sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _chunks(self, file: ModelFile, descriptor: int) -> Iterator[bytes]:
        try:
            yield from iter(partial(os.read, descriptor, CHUNK_BYTES), b"")
        except OSError as error:
            raise corrupt(file, f"unreadable ({error.strerror})") from error


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _blobs_in(folder: Path) -> Iterator[StoredBlob]:
    for path in sorted(folder.glob("?" * _SHA256_DIGITS)):
        if path.name.startswith(folder.parent.name + folder.name):
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                yield StoredBlob(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as write:
        shutil.copyfileobj(read, write, CHUNK_BYTES)
        write.flush()
        os.fsync(write.fileno())
    target.chmod(0o400)
