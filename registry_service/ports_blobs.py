"""What the use cases need of the places where bytes are. The docstrings are the contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from registry_service.artifacts import BlobRecord, Garbage, StoredBlob, Upload
from registry_service.domain import ModelFile


class Outgoing(Protocol):
    """Bytes being read. `close` may be called at any time, from any thread, and must be called."""

    def read(self) -> bytes:
        """The next chunk, b"" at the end. Raises BlobCorrupt, before the last chunk is given out, when
        the bytes are not the recorded ones; StorageUnavailable when they cannot be had now."""

    def close(self) -> None:
        """Frees the file."""


class BlobStore(Protocol):
    """Immutable bytes by sha256. Everything may raise StorageUnavailable."""

    def prepare(self) -> None:
        """Makes ready what the others need. Raises OSError when the place cannot be used."""

    def publish(self, file: ModelFile, source: Path) -> None:
        """Makes the bytes of a local file, which are known to be the file's, durable under its digest:
        whole, or not at all. What is there under that digest, damaged or not, is replaced. The source stays,
        may be one with the blob from now on, and must not be written to. Raises StorageFull."""

    def holds(self, file: ModelFile) -> bool:
        """Whether bytes of the file's size are there under its digest."""

    def open(self, file: ModelFile) -> Outgoing:
        """Begins to read. Raises BlobCorrupt when nothing of the recorded size is stored."""

    def measure(self, sha256: str) -> tuple[str, int] | None:
        """The true digest and size of the bytes stored under one, read in bounded memory; None when there
        are none. Raises OSError when they cannot be read."""

    def remove(self, sha256: str) -> None:
        """Nothing to remove is no error. Only inside a transaction that writes, see uploads.py."""

    def stored(self) -> Iterator[StoredBlob]:
        """All that is there, by digest, in bounded memory. What is published or removed meanwhile may be
        among them or not."""


class BlobRecords(Protocol):
    """Which bytes the database knows of."""

    def claim(self, file: ModelFile, time: datetime) -> None:
        """Records the file's bytes unless they are, and takes their mark away."""

    def unknown(self, blobs: Sequence[StoredBlob]) -> list[StoredBlob]:
        """Those without a record. At most 1,000 are asked about."""

    def add_marked(self, blobs: Sequence[StoredBlob], time: datetime) -> None:
        """Records bytes that no version refers to, unless they have a record."""

    def mark(self, time: datetime) -> None:
        """Marks every blob that no version refers to and that has no mark; takes the mark of others away."""

    def unreferenced(self, limit: int) -> Garbage:
        """Blobs that no version refers to; names up to `limit` of them."""

    def marked(self, before: datetime, *, after: str = "", limit: int) -> list[BlobRecord]:
        """Blobs marked before a moment that no version refers to, by digest, those behind `after`."""

    def is_marked(self, before: datetime, sha256: str) -> bool:
        """Whether a blob is as `marked` says."""

    def forget(self, sha256: str) -> None:
        """Removes the record of a blob."""


class Staged(Protocol):
    """What one call has of an upload. `close` and `discard` may be called at any time, from any thread; one
    of them must be."""

    path: Path

    def reread(self) -> bool:
        """Takes some of the bytes an earlier call left into the digest; False when that is done. To be called
        until then before the first write of a resumed upload."""

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Adds bytes. Raises UploadSizeMismatch as soon as they are more than announced,
        UploadOffsetMismatch when another call went on with the upload."""

    def wants_sync(self) -> bool:
        """Whether there is much that a power cut would take."""

    def sync(self) -> None:
        """Makes durable what was written; others may write meanwhile."""

    def finish(self) -> None:
        """Makes everything durable. Raises UploadSizeMismatch while bytes are missing, UploadDigestMismatch
        when they are not the bytes announced."""

    def close(self) -> None:
        """Leaves what is here to a call that goes on with it."""

    def discard(self) -> None:
        """Removes what is here."""


class Staging(Protocol):
    """Bytes that are not yet a blob, kept for a week after their stream broke or their process ended."""

    def prepare(self) -> None:
        """Makes ready what the others need. Raises OSError when the place cannot be used."""

    def received(self, upload: Upload) -> int:
        """How many bytes of it are here to go on from. Those of a call that runs are its own, unless
        nothing has come for some seconds."""

    def begin(self, upload: Upload) -> Staged:
        """Begins anew, beside others who do the same."""

    def resume(self, upload: Upload, offset: int) -> Staged:
        """Goes on behind the bytes an earlier call left; if that still runs, it is the end of it. Raises
        UploadOffsetMismatch unless just so many are here."""

    def expire(self, *, dry_run: bool = False) -> int:
        """Removes what nobody went on with for a week; how many uploads."""
