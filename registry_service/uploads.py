"""Use cases of uploads. Each function is one transaction of its caller's.

How a version comes to refer only to bytes that are there, beside a collection of garbage (garbage.py):

1. The bytes are published under their digest before the transaction that refers to them.
2. That transaction looks whether the bytes are still there, then refers to them.
3. A sweep removes bytes only inside a transaction that writes, after it saw that nobody refers to them.

Transactions that write take turns, those of other processes included: on SQLite by its one write lock, on
PostgreSQL by the lock of the end of the audit chain, which each takes first. So of these two one comes before
the other. If it is the upload's, the sweep sees the reference and leaves the bytes. If it is the sweep's, or
one that was killed between the bytes and its commit, the upload sees that the bytes are gone: `BytesGone`
undoes its transaction, the caller publishes them again from the staged file, which stays until the commit,
and tries again.
"""

from __future__ import annotations

from collections.abc import Callable

from plumbline.registry.errors import StorageUnavailable, UploadSizeMismatch
from registry_service import versions
from registry_service.artifacts import Upload
from registry_service.checks import check_active
from registry_service.commands import UploadFile
from registry_service.domain import Act, ModelFile
from registry_service.ports import Transaction


class BytesGone(StorageUnavailable):
    """A sweep removed the bytes before a version could refer to them. metadata: path."""


def check(transaction: Transaction, command: UploadFile) -> tuple[Upload, ModelFile | None]:
    """The upload, before any byte of it is taken, and the version's file if it has it already.

    That a blob of the digest is there under another path or version spares nobody the sending: who could get
    a file by naming its digest would read what others uploaded, and learn what the registry holds.

    Raises ModelNotFound, VersionNotFound, ModelArchived, VersionImmutable, FileExists, UploadSizeMismatch.
    """
    model = transaction.models.get(command.version.model)
    check_active(model)
    version = transaction.versions.get(command.version)
    present = versions.check_addable(version, command.file)
    if present is not None and present.size_bytes != command.file.size_bytes:
        raise UploadSizeMismatch(
            f"{command.file.path!r}: announced are {command.file.size_bytes} bytes, but the file of this "
            f"digest that the version has is {present.size_bytes} bytes long",
            metadata={
                "path": command.file.path,
                "expected": str(command.file.size_bytes),
                "actual": str(present.size_bytes),
            },
        )
    return Upload(version.id, command.file), present


def register(
    transaction: Transaction, act: Act, command: UploadFile, holds: Callable[[ModelFile], bool]
) -> ModelFile:
    """Adds published bytes to a DRAFT. holds: whether the store has them. Raises BytesGone, and as
    `check`."""
    transaction.blobs.claim(command.file, act.time)
    if not holds(command.file):
        raise BytesGone(
            f"the bytes of {command.file.path!r} were removed as garbage at this very moment; "
            "upload them again",
            metadata={"path": command.file.path},
        )
    return versions.add_file(transaction, act, command)
