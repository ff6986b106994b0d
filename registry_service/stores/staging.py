"""Uploads on their way: files in a local folder, kept when a stream breaks so that it can go on.

incoming/{key}.{attempt}.part   what one call has sent of one upload

The key is a hash of the version, the path and the digest; no name from outside is ever part of a path. Each
call that begins an upload anew has a file of its own, so that callers who upload the same thing at once
cannot harm each other. The file is locked (flock) while its call runs; one that nobody has locked can be gone
on with, by any process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from plumbline.registry.errors import UploadDigestMismatch, UploadOffsetMismatch, UploadSizeMismatch
from registry_service.artifacts import KEEP_UPLOADS, Upload
from registry_service.domain import ModelFile
from registry_service.stores.local import sync_folder

#: A call that has sent nothing for so long may be one whose caller is gone without a word: another may go on
#: with what it has sent.
SILENT_SECONDS = 3.0

#: No more than about this much of an upload is lost by a power cut.
SYNC_BYTES = 32 * 1024 * 1024

# Of a resumed upload, read again at a time for its digest.
_REREAD_BYTES = 1024 * 1024


class LocalStaging:
    """`ports_blobs.Staging` in a folder that several processes of one machine may share."""

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._monotonic = folder, monotonic
        self._lock = threading.Lock()
        self._live: dict[Path, LocalStaged] = {}

    def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.expire()

    def received(self, upload: Upload) -> int:
        return max((size for _, size in self._free(upload)), default=0)

    def begin(self, upload: Upload) -> LocalStaged:
        # What earlier calls left is of no use once somebody begins anew.
        for path, _ in self._free(upload):
            self._remove(path)
        while True:
            path = self._folder / f"{_key(upload)}.{uuid.uuid4().hex}.part"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # Another process may have taken the file before it was locked here.
            if staged := self._locked(upload, path, descriptor):
                sync_folder(self._folder)
                return staged

    def resume(self, upload: Upload, offset: int) -> LocalStaged:
        for path, size in self._free(upload):
            if size == offset and (staged := self._take(upload, path, offset)):
                return staged
        there = self.received(upload)
        raise UploadOffsetMismatch(
            f"{upload.file.path!r}: the upload goes on from byte {offset}, but {there} bytes are here; "
            "ask GetUpload how many there are, or begin anew with offset 0",
            metadata={"path": upload.file.path, "expected": str(there), "actual": str(offset)},
        )

    def expire(self, keep: timedelta = KEEP_UPLOADS, *, dry_run: bool = False) -> int:
        oldest, count = time.time() - keep.total_seconds(), 0
        for path in sorted(self._folder.glob("*.part")):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    count += self._is_unlocked(path) if dry_run else self._remove(path)
        return count

    def _free(self, upload: Upload) -> list[tuple[Path, int]]:
        """Files of the upload that a call may go on with, and their sizes."""
        found = []
        for path in self._folder.glob(f"{_key(upload)}.*.part"):
            with contextlib.suppress(FileNotFoundError):
                with self._lock:
                    live = self._live.get(path)
                if live.silent(SILENT_SECONDS) if live else self._is_unlocked(path):
                    found.append((path, path.stat().st_size))
        return found

    def _take(self, upload: Upload, path: Path, offset: int) -> LocalStaged | None:
        with self._lock:
            live = self._live.get(path)
        if live is not None:
            live.give_up()
        # A whole file may be a blob already: nothing is written to it any more.
        flags = os.O_RDWR if offset < upload.file.size_bytes else os.O_RDONLY
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, PermissionError):
            return None
        staged = self._locked(upload, path, descriptor)
        if staged and os.fstat(descriptor).st_size != offset:
            staged.close()
            return None
        return staged

    def _locked(self, upload: Upload, path: Path, descriptor: int) -> LocalStaged | None:
        """The file with its lock taken; None, and the file closed, when another has it or removed it."""
        with self._lock:
            if not (_lock(descriptor) and _is_at(path, descriptor)):
                os.close(descriptor)
                return None
            staged = self._live[path] = LocalStaged(
                upload.file, path, descriptor, self._monotonic, self._forget
            )
            return staged

    def _forget(self, path: Path) -> None:
        with self._lock:
            self._live.pop(path, None)

    def _remove(self, path: Path) -> bool:
        """Removes a file unless somebody has it locked."""
        with contextlib.suppress(FileNotFoundError), self._lock, path.open("rb") as stream:
            if _lock(stream.fileno()):
                path.unlink()
                return True
        return False

    def _is_unlocked(self, path: Path) -> bool:
        # Under the lock of this process, or a look would be in the way of a call that takes the file.
        with self._lock, path.open("rb") as stream:
            return _lock(stream.fileno())


class LocalStaged:
    """`ports_blobs.Staged`: the file of one call, and the digest of what is in it."""

    def __init__(
        self,
        file: ModelFile,
        path: Path,
        descriptor: int,
        monotonic: Callable[[], float],
        forget: Callable[[Path], None],
    ) -> None:
        self.path = path
        self._file, self._descriptor, self._monotonic, self._forget = file, descriptor, monotonic, forget
        self._sha256, self._size, self._synced = hashlib.sha256(), 0, 0
        # A caller that gave up may close while a write of its is still running.
        self._lock = threading.Lock()
        self._closed = self._given_up = False
        self._last = monotonic()

    def reread(self) -> bool:
        with self._lock:
            self._check_open()
            chunk = os.read(self._descriptor, _REREAD_BYTES)
            self._sha256.update(chunk)
            self._size += len(chunk)
            self._last = self._monotonic()
            return bool(chunk)

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        with self._lock:
            for chunk in chunks:
                self._check_open()
                if self._size + len(chunk) > self._file.size_bytes:
                    raise self._size_mismatch(self._size + len(chunk), "")
                self._sha256.update(chunk)
                _write_all(self._descriptor, chunk)
                self._size += len(chunk)
            self._last = self._monotonic()

    def wants_sync(self) -> bool:
        return self._size - self._synced >= SYNC_BYTES

    def sync(self) -> None:
        # Not under the lock: more is written while the disk is busy. Nor by a copy of the descriptor, which
        # would keep the file locked after it was closed.
        with self._lock:
            self._synced = self._size
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as stream:
            os.fdatasync(stream.fileno())

    def finish(self) -> None:
        with self._lock:
            self._check_open()
            if self._size != self._file.size_bytes:
                raise self._size_mismatch(self._size, " The rest may be sent with the offset GetUpload tells")
            actual = self._sha256.hexdigest()
            if actual != self._file.sha256:
                raise UploadDigestMismatch(
                    f"{self._file.path!r}: the bytes received have sha256 {actual}, announced was "
                    f"{self._file.sha256}; nothing was kept, upload it again",
                    metadata={"path": self._file.path, "expected": self._file.sha256, "actual": actual},
                )
            os.fsync(self._descriptor)

    def silent(self, seconds: float) -> bool:
        """Whether nothing came for so long, and nothing is being written now."""
        return not self._lock.locked() and self._monotonic() - self._last >= seconds

    def give_up(self) -> None:
        """Leaves the file to another call; what this one still writes raises UploadOffsetMismatch."""
        self._given_up = True
        self.close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def discard(self) -> None:
        with self._lock:
            if not self._given_up:
                self.path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            # First: from here on, the lock on the file says whose it is.
            self._forget(self.path)
            os.close(self._descriptor)

    def _check_open(self) -> None:
        if self._closed:
            raise UploadOffsetMismatch(
                f"{self._file.path!r}: another call goes on with this upload",
                metadata={"path": self._file.path, "expected": "", "actual": str(self._size)},
            )

    def _size_mismatch(self, size: int, advice: str) -> UploadSizeMismatch:
        kind = "only" if size < self._file.size_bytes else "at least"
        return UploadSizeMismatch(
            f"{self._file.path!r}: {kind} {size} bytes came, announced were {self._file.size_bytes}.{advice}",
            metadata={
                "path": self._file.path,
                "expected": str(self._file.size_bytes),
                "actual": str(size),
            },
        )


def _key(upload: Upload) -> str:
    parts = (str(upload.version_id), upload.file.path, upload.file.sha256)
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
