"""The Parquet files of a source: which they are, and how rows are added to them.

A source is one file or a folder. Rows are never written into a file that exists: an append adds a file,
written beside its place and moved there whole, so that a reader sees all of its rows or none. Parts
of a folder lie in the folder; parts of the single file `x.parquet` lie in the folder `x.parquet.d`.

A part is named `pushed-SEQUENCE-IDENTITY-DIGEST.parquet`: its number among the parts of its folder (so that
of rows which agree in everything else, those added last can be told), who added it, and what was added.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: The name of a part; group 1 is its number. Understood by Python and by DuckDB.
PART_NAME = r"pushed-([0-9]{20})-([0-9a-f]{32})-([0-9a-f]{32})\.parquet$"


class OtherRowsError(Exception):
    """A part of the same identity holds other rows."""


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


def append(path: str, rows: pa.Table, identity: str, digest: str) -> bool:
    """Adds rows durably as a part; False when that part is there already (nothing is written).

    identity: 32 hex digits, of the request that adds. digest: 32 hex digits, of what it adds. Appends
    to one source take turns, those of other processes of this machine too. Raises OtherRowsError when the
    identity added something else, OSError when the folder cannot be written, ValueError for a remote source.
    """
    if is_remote(path):
        raise ValueError(f"cannot append to {path}: only local files and folders can be appended to")
    main = Path(path.removeprefix("file://"))
    folder = main if main.is_dir() or main.suffix != ".parquet" else _parts_folder(main)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder) as directory:
        last = 0
        for part in os.listdir(folder):
            found = re.match(PART_NAME, part)
            if found is None:
                continue
            if found[2] == identity:
                if found[3] != digest:
                    raise OtherRowsError(f"{part} was added by the same request with other rows")
                return False
            last = max(last, int(found[1]))
        _write(folder / f"pushed-{last + 1:020d}-{identity}-{digest}.parquet", rows)
        os.fsync(directory)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Keeps other writers away from a folder; gives its descriptor."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


def _write(target: Path, rows: pa.Table) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".part-", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as sink:
            pq.write_table(rows, sink)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _parts_folder(main: Path) -> Path:
    return main.with_name(main.name + ".d")
