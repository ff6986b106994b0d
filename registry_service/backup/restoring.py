"""Makes a registry from a backup, after everything in the backup was found to be what it should be."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from registry_service.backup.manifest import DATABASE, BackupError, Manifest, blob_path, file_digest
from registry_service.backup.ports import Dumps
from registry_service.domain import ModelFile
from registry_service.ports import BlobStore, Database

_CHUNK_BYTES = 1024 * 1024
_SHOWN = 5

#: What is wrong with a database: sentences for people, none when it is intact.
Verify = Callable[[Database], Iterable[str]]


@dataclass(frozen=True)
class RestoreOptions:
    """expected_head: "{sequence}:{hash}" noted elsewhere, "" for none. scratch: a folder for files under way,
    on the disk of the artifacts. check_only: writes nothing."""

    source: Path
    scratch: Path
    expected_head: str = ""
    check_only: bool = False


def restore_backup(
    dumps: Dumps,
    blobs: BlobStore,
    options: RestoreOptions,
    verify: Verify,
    clock: Callable[[], datetime],
) -> Manifest:
    """Fills an empty registry. Raises BackupError, OSError, and what the stores raise; the database is then
    still empty. Bytes restored by then stay, and are of use to the next attempt."""
    source = options.source
    manifest = Manifest.read(source)
    _check_database(dumps, source / DATABASE, manifest, options.expected_head, verify)
    if not options.check_only:
        if not dumps.is_empty():
            raise BackupError("the database is not empty: restore into a new one. Nothing was changed")
        blobs.prepare()
        _check_foreign_blobs(dumps, source, blobs)
        options.scratch.mkdir(parents=True, exist_ok=True)
    count = 0
    for file in dumps.blobs(source / DATABASE):
        if file.sha256 in manifest.damaged:
            continue
        count += 1
        if options.check_only:
            _check_blob(source, file)
        else:
            _restore_blob(source, options.scratch, blobs, file)
    if count != manifest.blobs:
        raise BackupError(f"the backup names {count} blobs; its manifest tells of {manifest.blobs}")
    if not options.check_only:
        loaded = dumps.load(source / DATABASE, clock())
        if loaded != manifest.contents:
            raise BackupError("what was restored is not what the manifest tells of; do not use it")
    return manifest


def _check_database(dumps: Dumps, path: Path, manifest: Manifest, expected_head: str, verify: Verify) -> None:
    try:
        actual = file_digest(path)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from error
    if actual != manifest.database_sha256:
        raise BackupError(
            f"{path} was altered: its sha256 is {actual}, the manifest tells of {manifest.database_sha256}"
        )
    if dumps.contents(path) != manifest.contents:
        raise BackupError(f"{path} does not hold what the manifest tells of")
    if expected_head and expected_head != manifest.head:
        raise BackupError(f"the backup ends with the event {manifest.head}; expected was {expected_head}")
    with dumps.opened(path) as database:
        found = list(islice(verify(database), _SHOWN + 1))
    if found:
        more = " …" if len(found) > _SHOWN else ""
        raise BackupError(f"{path} was altered: {'; '.join(found[:_SHOWN])}{more}")


def _check_foreign_blobs(dumps: Dumps, source: Path, blobs: BlobStore) -> None:
    """Those of the backup may be there: an attempt before was cut short."""
    if next(iter(blobs.stored()), None) is None:
        return
    own = {file.sha256 for file in dumps.blobs(source / DATABASE)}
    for blob in blobs.stored():
        if blob.sha256 not in own:
            raise BackupError(
                f"the artifact store is not empty: it holds {blob.sha256}, which is not of this backup. "
                "Restore into a new place. Nothing was changed"
            )


def _check_blob(source: Path, file: ModelFile) -> None:
    path = blob_path(source, file.sha256)
    try:
        actual = "a link" if path.is_symlink() else file_digest(path)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from error
    if actual != file.sha256:
        raise _altered(path, actual)


def _restore_blob(source: Path, scratch: Path, blobs: BlobStore, file: ModelFile) -> None:
    if blobs.holds(file) and blobs.measure(file.sha256) == (file.sha256, file.size_bytes):
        return
    path, sha256 = blob_path(source, file.sha256), hashlib.sha256()
    # A copy, also where a link would do: the backup stays what it is whatever happens to the registry.
    with tempfile.TemporaryDirectory(dir=scratch, prefix="restore-") as folder:
        copy = Path(folder) / file.sha256
        try:
            with path.open("rb") as read, copy.open("xb") as write:
                while chunk := read.read(_CHUNK_BYTES):
                    sha256.update(chunk)
                    write.write(chunk)
        except FileNotFoundError as error:
            raise BackupError(f"{path} is missing") from error
        if sha256.hexdigest() != file.sha256:
            raise _altered(path, sha256.hexdigest())
        blobs.publish(file, copy)


def _altered(path: Path, actual: str) -> BackupError:
    return BackupError(f"{path} was altered: its sha256 is {actual}")


def remove_scratch(scratch: Path) -> None:
    """What a killed attempt left."""
    for path in scratch.glob("restore-*"):
        shutil.rmtree(path, ignore_errors=True)
