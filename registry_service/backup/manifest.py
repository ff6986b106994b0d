"""What a backup says about itself.

manifest.json            this
registry.db              an SQLite database of the registry's own schema, whatever database it came from
blobs/ab/abcd…           the bytes of files, by their sha256
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from registry_service.events import Head

FORMAT = 1
MANIFEST, DATABASE, BLOBS = "manifest.json", "registry.db", "blobs"
_CHUNK_BYTES = 1024 * 1024


class BackupError(Exception):
    """The message is for people: what is wrong, and what to do."""


@dataclass(frozen=True)
class Contents:
    """Of one state of a database. schema: its revision. rows: by table."""

    schema: str
    head: Head
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Manifest:
    """damaged: digests of bytes that were lost already when the backup was made."""

    create_time: datetime
    contents: Contents
    database_sha256: str
    blobs: int
    blob_bytes: int
    damaged: tuple[str, ...]
    webhook_secrets: bool

    @property
    def head(self) -> str:
        """ "{sequence}:{hash}" of the last event."""
        return f"{self.contents.head.sequence}:{self.contents.head.hash}"

    def write(self, folder: Path) -> None:
        document = {
            "format": FORMAT,
            "create_time": self.create_time.isoformat(),
            "schema": self.contents.schema,
            "head": self.head,
            "database": {"sha256": self.database_sha256, "rows": dict(self.contents.rows)},
            "blobs": {"count": self.blobs, "bytes": self.blob_bytes, "damaged": list(self.damaged)},
            "webhook_secrets": self.webhook_secrets,
        }
        (folder / MANIFEST).write_text(json.dumps(document, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises BackupError when the folder holds no backup this program can read."""
        try:
            document = json.loads((folder / MANIFEST).read_text())
        except FileNotFoundError as error:
            raise BackupError(f"{folder} is no backup: it has no {MANIFEST}") from error
        except (OSError, ValueError) as error:
            raise BackupError(f"{folder / MANIFEST} cannot be read: {error}") from error
        try:
            if document["format"] != FORMAT:
                raise BackupError(
                    f"{folder} is a backup of format {document['format']}; this program reads {FORMAT}"
                )
            sequence, _, last = document["head"].partition(":")
            database, blobs = document["database"], document["blobs"]
            return cls(
                create_time=datetime.fromisoformat(document["create_time"]),
                contents=Contents(document["schema"], Head(int(sequence), last), database["rows"]),
                database_sha256=database["sha256"],
                blobs=blobs["count"],
                blob_bytes=blobs["bytes"],
                damaged=tuple(blobs["damaged"]),
                webhook_secrets=document["webhook_secrets"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BackupError(f"{folder / MANIFEST} is not a manifest of a backup ({error!r})") from error


def blob_path(folder: Path, sha256: str) -> Path:
    """Where a backup keeps the bytes of a digest."""
    return folder / BLOBS / sha256[:2] / sha256


def file_digest(path: Path) -> str:
    """The sha256 of a file, 64 hex digits."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
    return sha256.hexdigest()
