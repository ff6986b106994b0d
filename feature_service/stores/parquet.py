"""The Parquet files of a source: which they are, and how rows are added to them.

A source is one file or a folder. Rows are never written into a file that exists: an append adds a file,
written beside its place and moved there whole, so that a reader sees all of its rows or none. Parts
of a folder lie in the folder; parts of the single file `x.parquet` lie in the folder `x.parquet.d`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def is_remote(path: str) -> bool:
    """Whether a path is a URI of another machine, as s3://…"""
    return "://" in path and not path.startswith("file://")


def files_of(path: str) -> tuple[str, ...]:
    """The files of a source, for DuckDB: paths and globs. () for a folder that is still empty.

    Raises FileNotFoundError when neither the source nor a part of it exists.
    """
    if is_remote(path):
        return (path,)
    main = Path(path.removeprefix("file://"))
    if main.is_dir():
        return tuple(sorted(str(part) for part in main.rglob("*.parquet") if part.is_file()))
    parts = tuple(sorted(str(part) for part in _parts_folder(main).glob("*.parquet")))
    if main.exists():
        return (str(main), *parts)
    if parts:
        return parts
    raise FileNotFoundError(f"no such file or folder: {main}")


def append(path: str, rows: pa.Table, name: str) -> bool:
    """Adds rows durably as the part `name`; False when that part is there already (nothing is written).

    Raises OSError when the folder cannot be written, ValueError for a remote source.
    """
    if is_remote(path):
        raise ValueError(f"cannot append to {path}: only local files and folders can be appended to")
    main = Path(path.removeprefix("file://"))
    folder = main if main.is_dir() or main.suffix != ".parquet" else _parts_folder(main)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"part-{name}.parquet"
    if target.exists():
        return False
    handle, temporary = tempfile.mkstemp(prefix=".part-", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(handle, "wb") as sink:
            pq.write_table(rows, sink)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True


def _parts_folder(main: Path) -> Path:
    return main.with_name(main.name + ".d")
