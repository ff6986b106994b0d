"""Makes a backup while the registry serves: first the database, in one state, then the bytes it names.

Bytes that a version refers to are never removed, so that those of that state are all still there afterwards,
however long it takes; what came since is not in the backup.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plumbline.registry.errors import BlobCorrupt
from registry_service.backup.manifest import DATABASE, BackupError, Manifest, blob_path, file_digest
from registry_service.backup.ports import Dumps
from registry_service.domain import ModelFile
from registry_service.ports import BlobStore

_SHOWN = 20


@dataclass(frozen=True)
class BackupOptions:
    """previous: an earlier backup; bytes that it has too are shared with it, by hard links. allow_damaged:
    goes on without bytes that are lost already, and says so in the backup."""

    target: Path
    previous: Path | None = None
    secrets: bool = False
    allow_damaged: bool = False


def make_backup(
    dumps: Dumps, blobs: BlobStore, options: BackupOptions, clock: Callable[[], datetime]
) -> Manifest:
    """The folder is there whole at the end, or not at all. Raises BackupError, OSError, and what the stores
    raise."""
    target = options.target.absolute()
    if target.exists():
        raise BackupError(f"{target} is there already; every backup is made in a folder of its own")
    if options.previous is not None:
        Manifest.read(options.previous)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    scratch.mkdir(mode=0o700)
    try:
        manifest = _fill(dumps, blobs, options, scratch, clock())
        manifest.write(scratch)
        # Everything is on the disk before it gets its name.
        os.sync()
        scratch.rename(target)
        os.sync()
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return manifest


def _fill(dumps: Dumps, blobs: BlobStore, options: BackupOptions, scratch: Path, time: datetime) -> Manifest:
    database = scratch / DATABASE
    contents = dumps.write(database, secrets=options.secrets)
    count, size, damaged = 0, 0, list[str]()
    for file in dumps.blobs(database):
        if _reuse(options.previous, scratch, file) or _copy(blobs, scratch, file):
            count, size = count + 1, size + file.size_bytes
        else:
            damaged.append(file.sha256)
    if damaged and not options.allow_damaged:
        shown = ", ".join(damaged[:_SHOWN]) + (" …" if len(damaged) > _SHOWN else "")
        raise BackupError(
            f"the bytes of {len(damaged)} files are damaged or missing in the registry: {shown}. Nothing was "
            "kept. `plumbline registry verify` says whose they are; to make a backup of the rest all the "
            "same, allow it (--allow-damaged)"
        )
    return Manifest(
        create_time=time,
        contents=contents,
        database_sha256=file_digest(database),
        blobs=count,
        blob_bytes=size,
        damaged=tuple(damaged),
        webhook_secrets=options.secrets,
    )


def _reuse(previous: Path | None, scratch: Path, file: ModelFile) -> bool:
    if previous is None:
        return False
    source, target = blob_path(previous, file.sha256), blob_path(scratch, file.sha256)
    # Read, not trusted: a backup that went bad must not go on to the next.
    if not source.is_file() or source.is_symlink() or file_digest(source) != file.sha256:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or one without hard links.
        return False
    return True


def _copy(blobs: BlobStore, scratch: Path, file: ModelFile) -> bool:
    target = blob_path(scratch, file.sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = blobs.open(file)
    except BlobCorrupt:
        return False
    try:
        with target.open("xb") as out:
            while chunk := stream.read():
                out.write(chunk)
    except BlobCorrupt:
        target.unlink()
        return False
    finally:
        stream.close()
    target.chmod(0o400)
    return True
