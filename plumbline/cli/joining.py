"""Parquet in and out of `plumbline features join`, and how far it is."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from plumbline.features.arrow_stream import OnProgress
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb

_BATCH_ROWS = 65_536

Write = Callable[[pa.Schema, Iterable[pa.RecordBatch]], None]


@contextmanager
def reading(path: str) -> Iterator[pa.RecordBatchReader]:
    """The rows of a Parquet file or folder, read as they are used."""
    try:
        dataset = ds.dataset(path, format="parquet")
    except (OSError, pa.ArrowException) as error:
        raise typer.BadParameter(f"--rows {path} cannot be read: {error}") from None
    yield dataset.scanner(batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1).to_reader()


@contextmanager
def writing(path: str) -> Iterator[Write]:
    """A function that writes batches to a Parquet file, which is there when the block ends well, or never."""
    target = Path(path)
    if target.exists():
        raise typer.BadParameter(f"--output {path} exists already")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".join-", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise typer.BadParameter(f"--output {path} cannot be written: {error.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as sink:

            def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
                with pq.ParquetWriter(sink, schema) as writer:
                    for batch in batches:
                        writer.write_batch(batch)

            yield write
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def join_progress() -> Iterator[OnProgress]:
    """Shows progress on stderr; nothing where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("sending rows", total=None)

        def update(found: pb.HistoricalFeaturesProgress) -> None:
            total = found.rows_total or None
            shown.update(task, description=found.phase, completed=found.rows_done, total=total)

        yield update
