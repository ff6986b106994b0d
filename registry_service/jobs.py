"""What is done beside the server, as programs that come to an end: backup and restore."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from plumbline.errors import PlumblineError
from registry_service.backup.making import BackupOptions, make_backup
from registry_service.backup.manifest import BackupError, Manifest
from registry_service.backup.restoring import RestoreOptions, remove_scratch, restore_backup
from registry_service.integrity.findings import Finding
from registry_service.integrity.verification import verify
from registry_service.ports import BlobStore, Database
from registry_service.repository.database import open_engine
from registry_service.repository.dumps import SqlDumps
from registry_service.repository.migration import MigrationError, migrate
from registry_service.settings import RegistrySettings
from registry_service.stores.opening import open_blobs
from servicekit.server import StartupError

#: Exit codes, beside 0: it failed, and nothing was changed; the settings are no good.
FAILED, UNUSABLE = 1, 2


@dataclass(frozen=True)
class _Place:
    dumps: SqlDumps
    blobs: BlobStore


def backup(settings: RegistrySettings, options: BackupOptions) -> int:
    """Of the registry of these settings, which may be serving meanwhile. Returns the exit code."""

    def work() -> Manifest:
        with _place(settings, new=False) as place:
            return make_backup(place.dumps, place.blobs, options, _now)

    return _reported("backup", work, f"{options.target}: ")


def restore(settings: RegistrySettings, source: Path, *, expected_head: str, check_only: bool) -> int:
    """Into the registry of these settings, which must be empty. Returns the exit code."""
    scratch = settings.artifacts_dir / "incoming"
    options = RestoreOptions(source, scratch, expected_head, check_only)

    def work() -> Manifest:
        with _place(settings, new=not check_only) as place:
            remove_scratch(scratch)

            def intact(database: Database) -> Iterator[str]:
                for part in verify(database, place.blobs, skip_blobs=True):
                    if isinstance(part, Finding):
                        yield f"{part.resource}: {part.message}"

            return restore_backup(place.dumps, place.blobs, options, intact, _now)

    return _reported("restore", work, "intact, " if check_only else "restored, ")


def _reported(name: str, work: Callable[[], Manifest], done: str) -> int:
    # What goes wrong is said below, in a line; without a handler it would be said with its stack, too.
    logging.getLogger("plumbline").addHandler(logging.NullHandler())
    try:
        manifest = work()
    except (StartupError, MigrationError) as error:
        print(f"registry_service {name}: {error}", file=sys.stderr)
        return UNUSABLE
    except (BackupError, PlumblineError) as error:
        cause = " ".join(str(getattr(error.__cause__, "orig", "")).split())
        print(f"registry_service {name}: {error}{f' ({cause})' if cause else ''}", file=sys.stderr)
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"registry_service {name}: {where}{error.strerror or error}", file=sys.stderr)
        return FAILED
    events = manifest.contents.rows.get("audit_event", 0)
    print(f"{done}{events} events, {manifest.blobs} blobs of {manifest.blob_bytes} bytes")
    print(f"head {manifest.head}")
    if manifest.damaged:
        print(f"without {len(manifest.damaged)} blobs that were damaged: {', '.join(manifest.damaged)}")
    return 0


@contextmanager
def _place(settings: RegistrySettings, *, new: bool) -> Iterator[_Place]:
    """new: whether a database that is not there, or has no tables, is made ready."""
    try:
        engine = open_engine(settings.database_url, busy_seconds=settings.busy_seconds)
    except ValueError as error:
        raise StartupError(str(error)) from error
    try:
        if new:
            migrate(engine)
        yield _Place(SqlDumps(engine), open_blobs(settings))
    finally:
        engine.dispose()


def _now() -> datetime:
    return datetime.now(UTC)
