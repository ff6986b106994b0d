"""What is said about artifact bytes, as plain values. Times are zone-aware UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry_service.domain import ModelFile

#: How long what a broken upload left is kept.
KEEP_UPLOADS = timedelta(days=7)

#: How long a blob was marked before a sweep removes it, unless asked otherwise.
MARKED_FOR = timedelta(days=1)


@dataclass(frozen=True)
class StoredBlob:
    """Bytes that a store has. time: when they came there."""

    sha256: str
    size_bytes: int
    time: datetime


@dataclass(frozen=True)
class BlobRecord:
    """Bytes that the database knows of."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Upload:
    """A file on its way to a version. version_id: the registry's own, so that a rename changes nothing."""

    version_id: int
    file: ModelFile


@dataclass(frozen=True)
class UploadStatus:
    """complete: the version has the file; then nothing need be sent."""

    received_bytes: int
    complete: bool


@dataclass(frozen=True)
class Garbage:
    """Blobs marked or removed. sha256: at most MAX_NAMED of them."""

    blobs: int
    size_bytes: int
    sha256: Sequence[str]
    uploads: int = 0


#: As many blobs an answer names.
MAX_NAMED = 1000
