"""What backups need from the database. The docstrings are the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from registry_service.backup.manifest import Contents
from registry_service.domain import ModelFile
from registry_service.ports import Database


class Dumps(Protocol):
    """One database, and whole states of databases as files: SQLite databases of the same schema."""

    def write(self, path: Path, *, secrets: bool) -> Contents:
        """Writes one unchanging state of the database to a new file, in bounded memory, while others go on.

        Of stored bytes only those that versions refer to are named: others may be removed any time.
        secrets False: those of webhooks are left out.
        """

    def contents(self, path: Path) -> Contents:
        """What a dump holds. Raises BackupError when it is none."""

    def blobs(self, path: Path) -> Iterator[ModelFile]:
        """The bytes a dump names, by digest; a file of each, with the digest as its path."""

    def opened(self, path: Path) -> AbstractContextManager[Database]:
        """A dump, to be read only."""

    def is_empty(self) -> bool:
        """Whether nothing was ever recorded in the database."""

    def load(self, path: Path, time: datetime) -> Contents:
        """Fills the empty database from a dump and adds an event that tells of it, all of it or nothing;
        returns what was taken from the dump. Raises BackupError when the database is not empty."""
