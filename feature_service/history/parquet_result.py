"""The result of a join as one Parquet file: there whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from feature_service.history.entity_rows import bad_field
from feature_service.stores import remote
from plumbline.features.errors import InvalidField, StorageFull

#: Rows of a row group, and most that is held in memory of a result. Row groups let readers read in parallel.
_GROUP_ROWS = 131_072
_SENT_BYTES = 8 * 1024**2


class ParquetResult:
    """Written batch by batch. `discard` after `finish` does nothing, so that it may always be called.

    A local file is written beside its place under another name and linked there when it is whole. What goes
    to object storage is written to temp_folder (None: the system's) and sent when whole: Arrow's streams
    to object storage cannot be given up, only completed. Raises InvalidField when something is there already.
    """

    def __init__(self, uri: str, temp_folder: str | None = None) -> None:
        self._uri = uri
        self._filesystem, self._path = remote.open_filesystem(uri)
        self._temp_folder = temp_folder
        self._temporary: Path | None = None
        self._sink: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._refuse_existing()

    def begin(self, schema: pa.Schema) -> None:
        """Opens the file. Raises InvalidField when it cannot be written."""
        try:
            folder = Path(self._temp_folder) if self._temp_folder else None
            if not remote.is_remote(self._uri):
                folder = Path(self._path).parent
                folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".result-", suffix=".tmp", dir=folder)
            self._temporary, self._sink = Path(name), os.fdopen(handle, "wb")
            self._writer = pq.ParquetWriter(self._sink, schema)
        except (OSError, pa.ArrowException) as error:
            self.discard()
            raise self._unwritable(error) from error

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows. Raises StorageFull."""
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= _GROUP_ROWS:
            self._flush()

    def finish(self) -> str:
        """Puts the file in its place; returns its URI. Raises InvalidField when something came there."""
        assert self._writer is not None
        assert self._sink is not None
        assert self._temporary is not None
        self._flush()
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        if remote.is_remote(self._uri):
            self._refuse_existing()
            self._send(self._temporary)
        else:
            self._link(self._temporary)
        self.discard()
        return self._uri

    def discard(self) -> None:
        """Leaves nothing behind of a file that is not finished."""
        self._writer = None
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _link(self, temporary: Path) -> None:
        try:
            # mkstemp's file is for its owner alone; the result is for whoever may read the folder.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            # Unlike a rename, a link never replaces what is there.
            os.link(temporary, self._path)
        except FileExistsError as error:
            raise self._exists() from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _send(self, temporary: Path) -> None:
        try:
            with temporary.open("rb") as source, self._filesystem.open_output_stream(self._path) as target:
                shutil.copyfileobj(source, target, _SENT_BYTES)
        except (OSError, pa.ArrowException) as error:
            with suppress(OSError, pa.ArrowException):
                self._filesystem.delete_file(self._path)
            raise self._unwritable(error) from error

    def _flush(self) -> None:
        assert self._writer is not None
        if self._waiting:
            try:
                self._writer.write_table(pa.Table.from_batches(self._waiting))
            except OSError as error:
                raise StorageFull(f"the result cannot be written: {error}", metadata={"view": ""}) from error
        self._waiting, self._rows = [], 0

    def _refuse_existing(self) -> None:
        info = self._filesystem.get_file_info(self._path)
        if info.type != fs.FileType.NotFound:
            raise self._exists()

    def _unwritable(self, error: Exception) -> InvalidField:
        return bad_field("result_uri", f"{remote.shown(self._uri)} cannot be written: {error}")

    def _exists(self) -> InvalidField:
        return bad_field("result_uri", f"{remote.shown(self._uri)} exists already")
