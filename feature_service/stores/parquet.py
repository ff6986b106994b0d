"""The Parquet files of a source: which they are, and how rows are added to them.

A source is one file, a glob of local files, or a folder with all the `.parquet` files below it but those of
which a name, or a folder's, starts with `_` or `.`: writers keep what is unfinished there. Folders named
`column=value` below it hold the value of that column for their files (a hive-partitioned tree).

Rows are never written into a file that exists: an append adds a file, which a reader sees whole or not at
all. Parts of a folder lie in the folder; parts of the single file `x.parquet` lie in the folder
`x.parquet.d`. The part of a partitioned tree lies at its top and holds the partition columns itself.
How parts are named is said in `feature_service.stores.parts`.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_service.stores import remote
from feature_service.stores.parts import Appended, merged_before, next_part, parts_of, without_merged

_PARTITION = re.compile(r"^([^=]+)=[^=]*$")
_SUFFIX = ".parquet"


def files_of(path: str) -> tuple[str, ...]:
    """The files of a source, as paths or URIs. () for a folder that is still empty.

    Raises FileNotFoundError when neither the source nor a part of it exists, OSError when a storage does
    not answer, ValueError for a URI of no use.
    """
    if remote.is_remote(path):
        return _remote_files(path)
    main = remote.local_path(path)
    if main.is_dir():
        files = (str(part) for part in main.rglob(f"*{_SUFFIX}") if part.is_file())
        return without_merged(_finished(str(main), files))
    parts = without_merged(tuple(sorted(str(part) for part in _parts_folder(main).glob(f"*{_SUFFIX}"))))
    if main.exists():
        return (str(main), *parts)
    if parts:
        return parts
    if glob.has_magic(str(main)):
        found = tuple(sorted(name for name in glob.glob(str(main), recursive=True) if Path(name).is_file()))
        if found:
            return found
    raise FileNotFoundError(f"no such file or folder: {main}")


def partition_columns(path: str, files: Sequence[str]) -> tuple[str, ...]:
    """The columns that the folders below a source's path hold, outermost first; () for none.

    Files at the top of a tree need not be in such folders: they hold the columns. Raises ValueError for
    files in folders of different columns.
    """
    top = path if remote.is_remote(path) else str(remote.local_path(path))
    below = len(top.rstrip("/"))
    seen: dict[tuple[str, ...], str] = {}
    for file in files:
        if file.startswith(top):
            folders = file[below:].split("/")[:-1]
            found = tuple(match[1] for match in map(_PARTITION.match, folders) if match)
            if found:
                seen.setdefault(found, file)
    if len(seen) > 1:
        one, other, *_ = seen.values()
        raise ValueError(f"{one} and {other} are in folders of different columns")
    return next(iter(seen), ())


def schema_of(file: str) -> pa.Schema:
    """The schema of one of `files_of`. Raises OSError, pa.ArrowException."""
    filesystem, path = remote.open_filesystem(file)
    return pq.read_schema(path, filesystem=filesystem)


def read(file: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One of `files_of`, whole, without what its folders say. Raises OSError, pa.ArrowException."""
    filesystem, path = remote.open_filesystem(file)
    return pq.read_table(path, columns=columns, filesystem=filesystem, partitioning=None)


def append(path: str, rows: pa.Table, identity: str | None, digest: str) -> Appended:
    """Adds rows durably as a part, unless that part is there already.

    identity: 32 hex digits, of the request that adds; None: a part of the same digest counts as the same
    only while it is the last one, as what came between may have to be undone by saying the first again.
    digest: 32 hex digits, of what it adds. Appends
    to one local source take turns, those of other processes of this machine too. Object storage has no turns:
    parts that are added at the same moment may get the same number, and the same request sent twice at
    the same moment may add its rows twice, which joins and online reads do not tell from once.
    Raises OtherRowsError when the identity added something else, OSError when the place cannot be written,
    ValueError for a URI of no use and for a glob.
    """
    if remote.is_remote(path):
        return _append_remote(path, rows, identity, digest)
    folder = appends_to(path)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as directory:
        name, before = next_part(str(folder), os.listdir(folder), identity, digest)
        if before is not None:
            return before
        if identity is not None and merged_before(folder, identity, digest):
            return Appended(None, False)
        write_whole(folder / name, rows)
        os.fsync(directory)
    return Appended(str(folder / name), True)


def parts_since(path: str, files: Iterable[str]) -> tuple[str, ...]:
    """The parts of a source that were added after its files were listed, in their order; for a glob none.

    A merged part is among them when one of those it holds was added since. Raises OSError, ValueError for a
    URI of no use.
    """
    folder = ""
    names: Iterable[str] = ()
    if remote.is_remote(path):
        folder, parts = _remote_appends(path)
        names = [part.rpartition("/")[2] for part in parts]
    elif takes_parts(path):
        folder = str(appends_to(path))
        names = os.listdir(folder) if os.path.isdir(folder) else ()
    seen = {file.rpartition("/")[2] for file in files}
    last = max((part.last for part in parts_of(seen)[0]), default=0)
    return tuple(
        f"{folder}/{part.name}"
        for part in parts_of(names)[0]
        if part.name not in seen and (part.last > last or not part.merged)
    )


def takes_parts(path: str) -> bool:
    """Whether rows can be added to a local source: not to a glob."""
    main = remote.local_path(path)
    return not glob.has_magic(str(main)) or main.exists()


def appends_to(path: str) -> Path:
    """The folder that the parts of a local source lie in. Raises ValueError for a glob."""
    main = remote.local_path(path)
    if not takes_parts(path):
        raise ValueError(f"{main} names several files: rows can be added to a file or a folder")
    return main if main.is_dir() or main.suffix != _SUFFIX else _parts_folder(main)


def replace(target: str, rows: pa.Table) -> None:
    """Makes rows all that a place holds: a file that ends in .parquet, or a folder with one file.

    Readers see the old rows or the new. Raises OSError, ValueError for a folder that holds other files.
    """
    file = target
    if not target.endswith(_SUFFIX):
        file = f"{target.rstrip('/')}/part-0{_SUFFIX}"
        others = [name for name in files_of(target) if name != file] if remote.exists(target) else []
        if others:
            raise ValueError(
                f"{remote.shown(target)} holds other files: name a new folder, or a .parquet file"
            )
    if remote.is_remote(file):
        remote.write_whole(file, _encoded(rows))
        return
    path = remote.local_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, rows)


def digest_of(rows: pa.Table) -> str:
    """32 hex digits of what rows are: names, types and values."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return hashlib.sha256(sink.getvalue()).hexdigest()[:32]


def _finished(top: str, files: Iterable[str]) -> tuple[str, ...]:
    below = len(top.rstrip("/"))
    return tuple(
        sorted(
            file for file in files if not any(part.startswith(("_", ".")) for part in file[below:].split("/"))
        )
    )


def _remote_files(path: str) -> tuple[str, ...]:
    try:
        files = remote.list_files(path, _SUFFIX)
    except FileNotFoundError:
        parts = _remote_parts(path)
        if not parts:
            raise
        return parts
    return (*files, *_remote_parts(path)) if files == (path,) else _finished(path, files)


def _remote_parts(path: str) -> tuple[str, ...]:
    if not path.endswith(_SUFFIX):
        return ()
    try:
        return remote.list_files(f"{path}.d", _SUFFIX)
    except FileNotFoundError:
        return ()


def _append_remote(path: str, rows: pa.Table, identity: str | None, digest: str) -> Appended:
    folder, parts = _remote_appends(path)
    name, before = next_part(folder, (part.rpartition("/")[2] for part in parts), identity, digest)
    if before is not None:
        return before
    remote.write_whole(f"{folder}/{name}", _encoded(rows))
    return Appended(f"{folder}/{name}", True)


def _remote_appends(path: str) -> tuple[str, tuple[str, ...]]:
    """The folder that the parts of a remote source lie in, and what lies there."""
    path = path.rstrip("/")
    folder = f"{path}.d" if path.endswith(_SUFFIX) and not remote.is_folder(path) else path
    try:
        return folder, remote.list_files(folder, _SUFFIX, deep=False)
    except FileNotFoundError:
        return folder, ()


def _encoded(rows: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    return sink.getvalue()


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keeps other writers away from a folder; gives its descriptor."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


def write_whole(target: Path, rows: pa.Table) -> None:
    """Writes a file beside its place and moves it there once it is on disk."""
    temporary = target.with_name(f".part-{uuid.uuid4().hex}.tmp")
    try:
        # Not by tempfile, whose files are for their owner alone: whoever may read the source reads this too.
        with temporary.open("xb") as sink:
            pq.write_table(rows, sink)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _parts_folder(main: Path) -> Path:
    return main.with_name(main.name + ".d")
